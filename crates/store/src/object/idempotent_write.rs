//! Idempotent creates and deletes for clouds. The response to a request may be lost after the cloud executed it.
//!
//! The cloud's client itself retries reads, lists and overwrites. This layer retries the two other kinds of requests,
//! and makes the retries safe:
//!
//! - *create*: a retry may find the object of the first attempt. If an existing object has the same bytes, the create
//!   succeeds, even if another writer created it. If only one writer may create an object, each writer puts a unique
//!   write id into it, so that no other writer creates the same bytes.
//! - *delete*: a retry may find nothing. After an attempt whose outcome is unknown, "not found" counts as deleted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::time::Instant;

/// Pause before the first retry of a create or delete. It doubles with each further retry, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Maximum concurrent deletes of one call of `delete_stream`.
const CONCURRENT_DELETES: usize = 16;

/// A backend with idempotent creates and deletes.
#[derive(Debug)]
pub(crate) struct IdempotentStore<S> {
    inner: Arc<S>,
    retry_timeout: Duration,
}

impl<S: ObjectStore> IdempotentStore<S> {
    /// Wraps a backend. No retry of a create or delete starts later than `retry_timeout` after the first attempt.
    pub(crate) fn new(inner: S, retry_timeout: Duration) -> Self {
        Self { inner: Arc::new(inner), retry_timeout }
    }

    async fn create(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let mut backoff = Backoff::new(self.retry_timeout);
        loop {
            let error = match self.inner.put_opts(at, payload.clone(), options.clone()).await {
                Ok(created) => return Ok(created),
                Err(error @ Error::AlreadyExists { .. }) => match self.existing(at, &payload).await {
                    Ok(Some(equal)) => return Ok(equal),
                    Ok(None) => return Err(error),
                    // The existing object was deleted in the meantime, or cannot be read at the moment.
                    Err(error) => error,
                },
                Err(error) => error,
            };
            let may_retry = is_outcome_unknown(&error) || matches!(error, Error::NotFound { .. });
            if !may_retry || !backoff.wait().await {
                return Err(error);
            }
        }
    }

    /// Reads the existing object. If its bytes equal `payload`, returns the result of a successful write, else `None`.
    async fn existing(&self, at: &Path, payload: &PutPayload) -> Result<Option<PutResult>> {
        let object = self.inner.get(at).await?;
        let (e_tag, version) = (object.meta.e_tag.clone(), object.meta.version.clone());
        if object.meta.size != payload.content_length() as u64 {
            return Ok(None);
        }
        let equal = object.bytes().await? == bytes::Bytes::from(payload.clone());
        Ok(equal.then(|| PutResult { e_tag, version, extensions: Default::default() }))
    }
}

async fn delete<S: ObjectStore>(inner: &S, at: Path, retry_timeout: Duration) -> Result<Path> {
    let (mut backoff, mut is_retry) = (Backoff::new(retry_timeout), false);
    loop {
        match inner.delete(&at).await {
            Ok(()) => return Ok(at),
            Err(Error::NotFound { .. }) if is_retry => return Ok(at),
            Err(error) if !is_outcome_unknown(&error) || !backoff.wait().await => return Err(error),
            Err(_) => is_retry = true,
        }
    }
}

/// Returns whether the cloud may have executed the request despite the error.
fn is_outcome_unknown(error: &Error) -> bool {
    matches!(error, Error::Generic { .. })
}

/// Exponential backoff that ends at a deadline.
struct Backoff {
    deadline: Instant,
    pause: Duration,
}

impl Backoff {
    fn new(timeout: Duration) -> Self {
        Self { deadline: Instant::now() + timeout, pause: PAUSE_MIN }
    }

    /// Waits before the next attempt. If the wait would reach the deadline, returns false immediately.
    async fn wait(&mut self) -> bool {
        let pause = self.pause;
        self.pause = PAUSE_MAX.min(2 * pause);
        let has_time = Instant::now() + pause < self.deadline;
        if has_time {
            tokio::time::sleep(pause).await;
        }
        has_time
    }
}

impl<S: ObjectStore> fmt::Display for IdempotentStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for IdempotentStore<S> {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match options.mode {
            PutMode::Create => self.create(at, payload, options).await,
            _ => self.inner.put_opts(at, payload, options).await,
        }
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, retry_timeout) = (Arc::clone(&self.inner), self.retry_timeout);
        paths
            .map(move |at| {
                let inner = Arc::clone(&inner);
                async move { delete(inner.as_ref(), at?, retry_timeout).await }
            })
            .buffered(CONCURRENT_DELETES)
            .boxed()
    }

    fn list(&self, below: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(below)
    }

    fn list_with_offset(&self, below: Option<&Path>, after: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(below, after)
    }

    async fn list_with_delimiter(&self, below: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(below).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use object_store::memory::InMemory;

    use super::*;

    /// A backend that executes creates and deletes, but loses the responses to the next `lost` of them.
    #[derive(Debug, Default)]
    struct Lossy {
        inner: InMemory,
        lost: AtomicU32,
    }

    impl Lossy {
        fn loses(&self) -> Result<()> {
            let left = self.lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            left.map_or(Ok(()), |_| Err(Error::Generic { store: "lossy", source: "the answer is lost".into() }))
        }
    }

    impl fmt::Display for Lossy {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.inner.fmt(f)
        }
    }

    #[async_trait]
    impl ObjectStore for Lossy {
        async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
            let put = self.inner.put_opts(at, payload, options).await?;
            self.loses().map(|()| put)
        }

        async fn put_multipart_opts(
            &self,
            at: &Path,
            options: PutMultipartOptions,
        ) -> Result<Box<dyn MultipartUpload>> {
            self.inner.put_multipart_opts(at, options).await
        }

        async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
            self.inner.get_opts(at, options).await
        }

        fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
            let (inner, lost) = (self.inner.clone(), self.loses());
            let work = futures::stream::once(async move {
                let done: Vec<_> = inner.delete_stream(paths).collect().await;
                futures::stream::iter(match lost {
                    Ok(()) => done,
                    Err(error) => vec![Err(error)],
                })
            });
            work.flatten().boxed()
        }

        fn list(&self, below: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
            self.inner.list(below)
        }

        async fn list_with_delimiter(&self, below: Option<&Path>) -> Result<ListResult> {
            self.inner.list_with_delimiter(below).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
            self.inner.copy_opts(from, to, options).await
        }
    }

    fn store() -> IdempotentStore<Lossy> {
        IdempotentStore::new(Lossy::default(), Duration::from_secs(1))
    }

    async fn create(store: &IdempotentStore<Lossy>, text: &'static str) -> Result<PutResult> {
        store.put_opts(&"object".into(), text.into(), PutMode::Create.into()).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_create_that_finds_its_own_object_succeeds() {
        let store = store();
        store.inner.lost.store(1, Ordering::SeqCst);
        create(&store, "ours").await.unwrap();
        assert!(matches!(create(&store, "theirs").await, Err(Error::AlreadyExists { .. })));
        assert!(matches!(create(&store, "ours of another length").await, Err(Error::AlreadyExists { .. })));
        assert_eq!(store.get(&"object".into()).await.unwrap().bytes().await.unwrap(), "ours");
    }

    #[tokio::test(start_paused = true)]
    async fn a_delete_whose_answer_was_lost_succeeds() {
        let store = store();
        create(&store, "ours").await.unwrap();
        store.inner.lost.store(1, Ordering::SeqCst);
        store.delete(&"object".into()).await.unwrap();
        assert!(matches!(store.get(&"object".into()).await, Err(Error::NotFound { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn retries_end_at_the_timeout() {
        let store = store();
        let start = Instant::now();
        store.inner.lost.store(u32::MAX, Ordering::SeqCst);
        let deleted = store.delete(&"object".into()).await;
        assert!(matches!(deleted, Err(Error::Generic { .. })), "{deleted:?}");
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}
