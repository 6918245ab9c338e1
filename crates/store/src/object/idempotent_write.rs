//! A cloud's store whose writes and deletes have a certain outcome, also when an answer is lost.
//!
//! Below, requests that are safe to repeat are repeated: reads, lists and whole replacements. Left are the two that are
//! not, since the first try may have done its work and only its answer was lost:
//!
//! - *create*: a repeated one finds its own object. So where there is one, its bytes decide: equal ones count as
//!   written, by whomever. Objects that must tell their writers apart hold something of their writer.
//! - *delete*: a repeated one may find nothing. After a try whose outcome is unknown, nothing there means deleted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::time::Instant;

/// Pause before a write of unknown outcome is tried again; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Deletes of one stream that are under way at once.
const DELETES_AT_ONCE: usize = 16;

/// The store below, with certain outcomes.
#[derive(Debug)]
pub struct IdempotentStore<S> {
    inner: Arc<S>,
    retry_timeout: Duration,
}

impl<S: ObjectStore> IdempotentStore<S> {
    /// Tries for so long to learn what became of a write.
    pub fn new(inner: S, retry_timeout: Duration) -> Self {
        Self { inner: Arc::new(inner), retry_timeout }
    }

    async fn create(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let mut tries = Tries::new(self.retry_timeout);
        loop {
            let error = match self.inner.put_opts(at, payload.clone(), options.clone()).await {
                Ok(created) => return Ok(created),
                Err(error @ Error::AlreadyExists { .. }) => match self.holds(at, &payload).await {
                    Ok(Some(ours)) => return Ok(ours),
                    Ok(None) => return Err(error),
                    // Gone again, or not to be had just now.
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if !(unknown(&error) || matches!(error, Error::NotFound { .. })) || !tries.another().await {
                return Err(error);
            }
        }
    }

    /// What a write would have returned, if the object there is what it wrote.
    async fn holds(&self, at: &Path, payload: &PutPayload) -> Result<Option<PutResult>> {
        let there = self.inner.get(at).await?;
        let (e_tag, version) = (there.meta.e_tag.clone(), there.meta.version.clone());
        if there.meta.size != payload.content_length() as u64 {
            return Ok(None);
        }
        let equal = there.bytes().await? == bytes::Bytes::from(payload.clone());
        Ok(equal.then(|| PutResult { e_tag, version, extensions: Default::default() }))
    }
}

async fn delete<S: ObjectStore>(inner: &S, at: Path, retry_timeout: Duration) -> Result<Path> {
    let (mut tries, mut tried) = (Tries::new(retry_timeout), false);
    loop {
        match inner.delete(&at).await {
            Ok(()) => return Ok(at),
            Err(Error::NotFound { .. }) if tried => return Ok(at),
            Err(error) if !unknown(&error) || !tries.another().await => return Err(error),
            Err(_) => tried = true,
        }
    }
}

/// Whether it may have been done all the same: the answer was lost, or said nothing about the object.
fn unknown(error: &Error) -> bool {
    matches!(error, Error::Generic { .. })
}

struct Tries {
    until: Instant,
    pause: Duration,
}

impl Tries {
    fn new(retry_timeout: Duration) -> Self {
        Self { until: Instant::now() + retry_timeout, pause: FIRST_PAUSE }
    }

    /// Waits for the time of the next try, if there is one.
    async fn another(&mut self) -> bool {
        let pause = self.pause;
        self.pause = LONGEST_PAUSE.min(2 * pause);
        let another = Instant::now() + pause < self.until;
        if another {
            tokio::time::sleep(pause).await;
        }
        another
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
        let (inner, retry_timeout) = (Arc::clone(&self.inner), self.retry_timeout);
        paths
            .map(move |at| {
                let inner = Arc::clone(&inner);
                async move { delete(inner.as_ref(), at?, retry_timeout).await }
            })
            .buffered(DELETES_AT_ONCE)
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

    /// A store that does its work, and whose next answers are lost.
    #[derive(Debug, Default)]
    struct Lossy {
        inner: InMemory,
        lost: AtomicU32,
    }

    impl Lossy {
        fn loses(&self) -> Result<()> {
            let left = self.lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            left.map_or(Ok(()), |_| {
                Err(Error::Generic { store: "lossy", source: "the answer is lost".into() })
            })
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
    async fn a_create_that_finds_its_own_object_has_written() {
        let store = store();
        store.inner.lost.store(1, Ordering::SeqCst);
        create(&store, "ours").await.unwrap();
        assert!(matches!(create(&store, "theirs").await, Err(Error::AlreadyExists { .. })));
        assert!(matches!(create(&store, "ours of another length").await, Err(Error::AlreadyExists { .. })));
        assert_eq!(store.get(&"object".into()).await.unwrap().bytes().await.unwrap(), "ours");
    }

    #[tokio::test(start_paused = true)]
    async fn a_delete_that_finds_its_own_work_done_has_deleted() {
        let store = store();
        create(&store, "ours").await.unwrap();
        store.inner.lost.store(1, Ordering::SeqCst);
        store.delete(&"object".into()).await.unwrap();
        assert!(matches!(store.get(&"object".into()).await, Err(Error::NotFound { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let store = store();
        let begun = Instant::now();
        store.inner.lost.store(u32::MAX, Ordering::SeqCst);
        let deleted = store.delete(&"object".into()).await;
        assert!(matches!(deleted, Err(Error::Generic { .. })), "{deleted:?}");
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
}
