//! The search index of a tenant, and its changes.
//!
//! Writes and deletions of this gateway change the index at once; `search/follow.rs` finds those of others. Both may be
//! about the same document at the same time, so each change has a number: a document that was deleted after its sketches
//! began to be read is not added.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use c3_search::{Index, IndexError, IndexedWindow, Sketch, TermKey};
use c3_store::Store;
use c3_store::manifest::Manifest;
use c3_store::object::version::Version;
use c3_store::search::{DocumentSketches, SearchSecret};
use c3_types::DocumentId;
use tokio::sync::{Mutex, Notify, OnceCell, mpsc};

use crate::error::Error;
use crate::sketches::SketchKey;

/// Maximum documents of this gateway that wait to be added. If more are written at once, the next reading of the store
/// finds them.
const WAITING_MAX: usize = 1024;

/// Queue of the changes that the index must read from the store.
pub(crate) struct Changes {
    written: mpsc::Receiver<DocumentId>,
    wanted: Arc<Notify>,
}

/// Reason to read the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// This gateway has written the document.
    Written(DocumentId),
    /// Somebody searches after an idle time.
    Wanted,
}

impl Changes {
    /// Waits for the next change. Returns `None` once the tenant's state is dropped.
    pub(crate) async fn next(&mut self) -> Option<Change> {
        tokio::select! {
            written = self.written.recv() => written.map(Change::Written),
            () = self.wanted.notified() => Some(Change::Wanted),
        }
    }
}

/// Search over the documents of one tenant.
pub(crate) struct TenantSearch {
    /// Maximum memory of the index in bytes; 0: search is off.
    memory_max: usize,
    /// Opened on first use, since it needs the secret in the store.
    open: OnceCell<OpenSearch>,
    state: Mutex<State>,
    written: mpsc::Sender<DocumentId>,
    /// Documents that this gateway has written, and that were not added yet.
    waiting: AtomicUsize,
    /// True once the index has all documents that were in the store when this gateway started.
    is_complete: AtomicBool,
    /// True if a document was left out because the memory is used up.
    is_full: AtomicBool,
    /// Time of the last search, or of the opening.
    searched: std::sync::Mutex<Instant>,
    /// True while the store is read rarely, because nobody searches.
    is_idle: AtomicBool,
    /// Wakes the reading of the store after an idle time.
    wanted: Arc<Notify>,
}

struct OpenSearch {
    key: SketchKey,
    index: Arc<Index>,
}

/// Documents in the index, and those that were removed lately.
#[derive(Default)]
struct State {
    /// Number of the latest change.
    change: u64,
    documents: HashMap<DocumentId, IndexedVersion>,
    /// Number of the change that removed a document, for those that are newer than the oldest reading in progress.
    removed: HashMap<DocumentId, u64>,
}

/// Version of a document in the index. It may have no windows, if it has no sketches.
struct IndexedVersion {
    version: Version,
    /// Number of the change that added it.
    change: u64,
    /// True if every window of the version has a sketch, in the index or left out because the memory is used up.
    has_all_sketches: bool,
}

/// Number of the latest change when a reading of the store began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reading(u64);

impl TenantSearch {
    /// Returns an empty index that takes at most `memory_max` bytes, and the queue of the changes that it must read.
    pub(crate) fn new(memory_max: usize) -> (Self, Changes) {
        let (written, receiver) = mpsc::channel(WAITING_MAX);
        let wanted = Arc::new(Notify::new());
        let changes = Changes { written: receiver, wanted: Arc::clone(&wanted) };
        let (open, state, waiting, is_complete, is_full, is_idle) = Default::default();
        let searched = Instant::now().into();
        (Self { memory_max, open, state, written, waiting, is_complete, is_full, searched, is_idle, wanted }, changes)
    }

    /// Returns whether search is turned on.
    pub(crate) fn is_on(&self) -> bool {
        self.memory_max > 0
    }

    /// Returns the key with which the tenant's terms are hashed; `None` if search is off. Fails if the secret is damaged.
    pub(crate) async fn key(&self, store: &Store) -> Result<Option<SketchKey>, Error> {
        match self.is_on() {
            true => Ok(Some(self.open(store).await?.key.clone())),
            false => Ok(None),
        }
    }

    /// Returns the key as [`Self::key`] does, but `None` if the secret is damaged: documents are then stored without
    /// sketches.
    pub(crate) async fn key_or_none(&self, store: &Store) -> Result<Option<SketchKey>, Error> {
        match self.key(store).await {
            Err(Error::DataLoss(problem)) => {
                tracing::warn!(
                    problem,
                    "a document is stored without sketches: run `c3 fsck --repair`, then `c3 reindex`"
                );
                Ok(None)
            }
            key => key,
        }
    }

    /// Returns the index.
    pub(crate) async fn index(&self, store: &Store) -> Result<Arc<Index>, Error> {
        Ok(Arc::clone(&self.open(store).await?.index))
    }

    async fn open(&self, store: &Store) -> Result<&OpenSearch, Error> {
        let open = async {
            let SearchSecret { secret, id } = store.search_secret().await?;
            let key = TermKey::derive(secret.expose());
            let index = Arc::new(Index::new(key.clone(), self.memory_max));
            Ok::<_, Error>(OpenSearch { index, key: SketchKey { key, secret: id } })
        };
        self.open.get_or_try_init(|| open).await
    }

    /// Notes a search. Returns whether it may miss documents: the store was not read yet, or not for long because nobody
    /// searched, or the memory is used up, or this gateway has just written one.
    pub(crate) fn begin_search(&self) -> bool {
        *self.searched.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let is_idle = self.is_idle.load(Ordering::Acquire);
        if is_idle {
            self.wanted.notify_one();
        }
        let has_all = self.is_complete.load(Ordering::Acquire) && self.waiting.load(Ordering::Acquire) == 0;
        is_idle || !has_all || self.is_full.load(Ordering::Acquire)
    }

    /// Sets whether nobody has searched for this time. Returns it.
    pub(crate) fn set_idle_after(&self, time: Duration) -> bool {
        let is_idle = self.searched.lock().unwrap_or_else(PoisonError::into_inner).elapsed() >= time;
        self.is_idle.store(is_idle, Ordering::Release);
        is_idle
    }

    pub(crate) fn set_complete(&self) {
        self.is_complete.store(true, Ordering::Release);
    }

    /// Notes that this gateway has written a document. It is found soon afterwards.
    pub(crate) fn written(&self, id: DocumentId) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        // If the queue is full, the next reading of the store finds the document.
        if self.written.try_send(id).is_err() {
            self.processed();
        }
    }

    /// Notes that a document which was written is in the index, or that adding it failed.
    pub(crate) fn processed(&self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }

    /// Begins a reading of the store, whose results are older than all later changes.
    pub(crate) async fn begin(&self) -> Reading {
        Reading(self.state.lock().await.change)
    }

    /// Returns whether this version of a document, or a later one, is in the index.
    pub(crate) async fn has(&self, id: &DocumentId, version: Version) -> bool {
        self.state.lock().await.documents.get(id).is_some_and(|indexed| indexed.version >= version)
    }

    /// Returns whether this version of a document, or a later one, is known to have a sketch of every window. False if
    /// it was not read yet.
    pub(crate) async fn has_all_sketches(&self, id: &DocumentId, version: Version) -> bool {
        let state = self.state.lock().await;
        state.documents.get(id).is_some_and(|indexed| indexed.version >= version && indexed.has_all_sketches)
    }

    /// Adds a version of a document with these sketches, or replaces an earlier one, unless the document was removed
    /// since `reading`. Damaged sketches are left out.
    pub(crate) async fn add(
        &self,
        store: &Store,
        manifest: &Manifest,
        sketches: DocumentSketches,
        reading: Reading,
    ) -> Result<(), Error> {
        let (id, index) = (manifest.id, self.index(store).await?);
        let has_all_sketches = manifest.is_searchable && sketches.missing == 0;
        let windows = sketches.windows.into_iter().filter_map(|window| {
            let decoded = Sketch::decode(&window.sketch);
            let decoded = decoded.inspect_err(|error| tracing::warn!(%id, %error, "search leaves a window out"));
            Some(IndexedWindow { bytes: window.bytes, sketch: decoded.ok()? })
        });
        let windows = Vec::from_iter(windows);
        // Held until the index is changed, so that a removal that follows finds the document.
        let mut state = self.state.lock().await;
        let is_removed = state.removed.get(&id).is_some_and(|&change| change > reading.0);
        if is_removed || state.documents.get(&id).is_some_and(|indexed| indexed.version > manifest.version) {
            return Ok(());
        }
        // Merging parts of the index may take long.
        let added = tokio::task::spawn_blocking(move || match windows.is_empty() {
            true => {
                index.remove(&id);
                Ok(())
            }
            false => index.insert(id, windows),
        });
        match added.await.map_err(|_| Error::panicked())? {
            Ok(()) => {}
            Err(error @ IndexError::Full { .. }) => {
                if !self.is_full.swap(true, Ordering::AcqRel) {
                    tracing::warn!(%error, "search leaves documents out: raise --search-memory");
                }
            }
            Err(error @ IndexError::TooManyWindows(_)) => tracing::warn!(%id, %error, "search leaves a document out"),
        }
        state.change += 1;
        let indexed = IndexedVersion { version: manifest.version, change: state.change, has_all_sketches };
        state.documents.insert(id, indexed);
        Ok(())
    }

    /// Removes a document that was deleted. No search that ends later returns it.
    pub(crate) async fn remove(&self, id: DocumentId) {
        let mut state = self.state.lock().await;
        state.change += 1;
        let change = state.change;
        state.removed.insert(id, change);
        state.documents.remove(&id);
        self.drop_from_index(id).await;
    }

    /// Ends a reading that found no other documents than those that `is_stored` accepts: removes all others, except
    /// those that were added since.
    pub(crate) async fn end(&self, reading: Reading, is_stored: impl Fn(&DocumentId) -> bool) {
        let mut state = self.state.lock().await;
        let gone = state.documents.iter().filter(|(id, indexed)| indexed.change <= reading.0 && !is_stored(id));
        for id in Vec::from_iter(gone.map(|(&id, _)| id)) {
            state.documents.remove(&id);
            self.drop_from_index(id).await;
        }
        state.removed.retain(|_, change| *change > reading.0);
    }

    async fn drop_from_index(&self, id: DocumentId) {
        let Some(open) = self.open.get() else { return };
        let index = Arc::clone(&open.index);
        // Merging parts of the index may take long. A panic there is a bug that is logged by the panic hook.
        let _ = tokio::task::spawn_blocking(move || index.remove(&id)).await;
    }
}

#[cfg(test)]
mod tests {
    use c3_store::search::WindowSketch;

    use super::*;
    use crate::test_data::manifest;

    #[tokio::test]
    async fn a_search_after_an_idle_time_is_partial_and_wakes_the_reading() {
        let (search, mut changes) = TenantSearch::new(1 << 20);
        assert!(search.begin_search());
        search.set_complete();
        assert!(!search.set_idle_after(Duration::from_secs(60)) && !search.begin_search());
        assert!(search.set_idle_after(Duration::ZERO) && search.begin_search());
        assert_eq!(changes.next().await, Some(Change::Wanted));
        let id = DocumentId::of(b"text");
        search.written(id);
        assert_eq!(changes.next().await, Some(Change::Written(id)));
        drop(search);
        assert_eq!(changes.next().await, None);
    }

    #[tokio::test]
    async fn a_document_without_a_sketch_of_every_window_does_not_have_all() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).await.unwrap();
        let (search, _changes) = TenantSearch::new(1 << 20);
        let stored = manifest(&[vec![10]], true);
        for (is_searchable, missing, expected) in [(true, 1, false), (false, 0, false), (true, 0, true)] {
            let manifest = Manifest { is_searchable, ..stored.clone() };
            let sketches = DocumentSketches { windows: Vec::new(), missing };
            search.add(&store, &manifest, sketches, search.begin().await).await.unwrap();
            assert!(search.has(&manifest.id, manifest.version).await);
            assert_eq!(search.has_all_sketches(&manifest.id, manifest.version).await, expected);
        }
    }

    #[tokio::test]
    async fn a_document_that_was_deleted_during_a_reading_is_not_added() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).await.unwrap();
        let (search, _changes) = TenantSearch::new(1 << 20);
        let key = search.key(&store).await.unwrap().unwrap().key;
        let index = search.index(&store).await.unwrap();
        let manifest = manifest(&[vec![10]], true);
        let sketch = Sketch::of_text("lighthouse", 350, &key).encode();
        let window = WindowSketch { bytes: 0..10, sketch: sketch.into() };
        let sketches = DocumentSketches { windows: vec![window], missing: 0 };
        let add = async |reading| search.add(&store, &manifest, sketches.clone(), reading).await.unwrap();

        let reading = search.begin().await;
        add(reading).await;
        assert!(index.contains(&manifest.id));
        assert!(search.has_all_sketches(&manifest.id, manifest.version).await);
        search.remove(manifest.id).await;
        assert!(!search.has_all_sketches(&manifest.id, manifest.version).await);
        add(reading).await;
        assert!(!index.contains(&manifest.id));

        // It was stored again.
        add(search.begin().await).await;
        assert!(index.contains(&manifest.id));
        search.end(reading, |_| false).await;
        assert!(index.contains(&manifest.id), "an old reading says nothing of later changes");
        search.end(search.begin().await, |_| false).await;
        assert!(!index.contains(&manifest.id));
    }
}
