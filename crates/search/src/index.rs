//! Index of one tenant, in memory.
//!
//! An index belongs to one tenant and there is no search over several, so a filter by tenant cannot be forgotten.
//!
//! # Structure
//!
//! A log-structured merge of postings. A new document stands in the *tail*, whose sketches every search scans. When
//! the tail has [`TAIL_WINDOWS`] windows, they become a [`Segment`]: immutable, delta-coded postings. Segments of
//! similar size are merged, so there are O(log n) of them. Removing a document sets its *tombstone*. When a quarter of
//! the windows of a segment have one, the segment is rewritten. All this happens within `insert` and `remove`, beside
//! searches, which work on a snapshot.
//!
//! A search reads the postings of its terms in all resolutions of hashes, adds up BM25 scores for all windows, and
//! selects the best.
//!
//! # Why not tantivy
//!
//! Measured with tantivy 0.27, in RAM, on 2 cores: one million tokens took 11.5 MiB with the smallest writer, ten
//! million took 54 MiB, where 4 and 40 MiB are allowed. This index takes 0.7 to 1.3 MiB per million. Each tenant needs
//! a writer of its own, with 3 MiB and six threads even for one window. A removed document remains visible until the
//! next commit and reload. Counts of two bits and several resolutions of one hash have no counterpart. It adds 127
//! crates and three minutes of compile time.

mod block;
mod document;
mod search;
mod segment;
mod tail;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use c3_types::DocumentId;
use thiserror::Error;

use self::document::IndexedDocument;
pub use self::search::{Hit, Position, Search};
use self::segment::Segment;
use self::tail::TailDocument;
use crate::key::TermKey;
use crate::sketch::Sketch;

/// Windows in the tail that become a segment. A search scans the tail in less than a millisecond.
const TAIL_WINDOWS: usize = 512;

/// Length of the tail at which inserting waits for a merge in progress, in units of [`TAIL_WINDOWS`].
const TAIL_FACTOR_MAX: usize = 4;

/// Tombstones among the windows of a segment, in percent, above which it is rewritten.
const DEAD_PERCENT_MAX: usize = 25;

/// Memory of a document besides its windows: its entry in the map, whose load is at least 7/16, and its allocation.
const DOCUMENT_BYTES: usize = 2 * (size_of::<DocumentId>() + size_of::<usize>()) + size_of::<IndexedDocument>() + 32;

/// Error of adding a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IndexError {
    /// The memory of the index is used up.
    #[error("the search index has reached its limit of {limit} bytes: delete documents or raise the limit")]
    Full {
        /// Most bytes that the index may take.
        limit: usize,
    },
    /// The document has more windows than an index can number.
    #[error("a document of {0} windows is too long to be searched")]
    TooManyWindows(usize),
}

/// Window to add to an index.
#[derive(Clone, Debug)]
pub struct IndexedWindow {
    /// Byte range in the document.
    pub bytes: Range<u64>,
    /// Sketch of the window's text.
    pub sketch: Sketch,
}

/// Searchable documents of one tenant.
///
/// All methods take `&self` and may be called concurrently. A search sees every document whose `insert` returned before
/// it began, and no document whose `remove` returned before the search did.
#[derive(Debug)]
pub struct Index {
    key: TermKey,
    limit: usize,
    state: RwLock<State>,
    /// Held while segments are built, so that one thread does it.
    maintenance: Mutex<()>,
    /// Windows with a tombstone that still have postings.
    dead_windows: AtomicU64,
}

/// State at one moment. Cheap parts are changed in place, segments are shared with searches.
#[derive(Debug, Default)]
struct State {
    segments: Vec<Arc<Segment>>,
    tail: Vec<Arc<TailDocument>>,
    tail_windows: usize,
    documents: HashMap<DocumentId, Arc<IndexedDocument>>,
    /// Windows without a tombstone.
    windows: u64,
    /// Sum of their lengths in terms.
    length: u64,
}

/// Condition and extent of the maintenance of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maintenance {
    /// If needed and no other thread does it.
    IfIdle,
    /// If needed, after another thread has done it.
    Await,
    /// Frees the memory of all tombstones.
    Compact,
}

impl State {
    fn memory_bytes(&self) -> usize {
        let segments = self.segments.iter().map(|segment| segment.memory_bytes()).sum::<usize>();
        let tail = self.tail.iter().map(|document| document.memory_bytes()).sum::<usize>();
        segments + tail + self.documents.len() * DOCUMENT_BYTES
    }

    /// Sets the tombstone of a document. Returns its number of windows, if it exists.
    fn remove(&mut self, document: &DocumentId) -> Option<u64> {
        let document = self.documents.remove(document)?;
        document.remove();
        self.windows -= u64::from(document.windows());
        self.length -= document.length();
        Some(document.windows().into())
    }
}

impl Index {
    /// Creates an empty index for sketches that were made with `key`. It takes about `limit` bytes of memory at most,
    /// and up to as much again for a moment while it merges all segments.
    pub fn new(key: TermKey, limit: usize) -> Self {
        let (state, maintenance, dead_windows) = Default::default();
        Self { key, limit, state, maintenance, dead_windows }
    }

    /// Adds a document, which replaces one with the same id. It is visible when this returns. Takes microseconds for
    /// each window, but every now and then as long as a merge does: seconds for millions of windows.
    ///
    /// # Errors
    ///
    /// Fails if the memory is used up. Nothing is changed then.
    pub fn insert(&self, document: DocumentId, windows: Vec<IndexedWindow>) -> Result<(), IndexError> {
        if u32::try_from(windows.len()).is_err() {
            return Err(IndexError::TooManyWindows(windows.len()));
        }
        let added = Arc::new(TailDocument::new(document, windows));
        let tail_windows = match self.add(document, &added) {
            Err(_) if self.dead_windows.load(Ordering::Relaxed) > 0 => {
                self.maintain(Maintenance::Compact);
                self.add(document, &added)?
            }
            result => result?,
        };
        if tail_windows >= TAIL_WINDOWS {
            let is_long = tail_windows >= TAIL_FACTOR_MAX * TAIL_WINDOWS;
            self.maintain(if is_long { Maintenance::Await } else { Maintenance::IfIdle });
        }
        Ok(())
    }

    /// Adds a document to the tail. Returns the number of windows of the tail.
    fn add(&self, id: DocumentId, added: &Arc<TailDocument>) -> Result<usize, IndexError> {
        let document = added.document();
        let mut state = self.write();
        if state.memory_bytes() + added.memory_bytes() + DOCUMENT_BYTES > self.limit {
            return Err(IndexError::Full { limit: self.limit });
        }
        let dead = state.remove(&id).unwrap_or(0);
        self.dead_windows.fetch_add(dead, Ordering::Relaxed);
        state.windows += u64::from(document.windows());
        state.length += document.length();
        state.tail_windows += document.windows() as usize;
        state.documents.insert(id, Arc::clone(document));
        state.tail.push(Arc::clone(added));
        Ok(state.tail_windows)
    }

    /// Removes a document. No search that ends after this returns it. Returns whether it was there.
    pub fn remove(&self, document: &DocumentId) -> bool {
        let (removed, live) = {
            let mut state = self.write();
            (state.remove(document), state.windows)
        };
        let Some(windows) = removed else { return false };
        let dead = self.dead_windows.fetch_add(windows, Ordering::Relaxed) + windows;
        if dead > TAIL_WINDOWS as u64 && 100 * dead > DEAD_PERCENT_MAX as u64 * live {
            self.maintain(Maintenance::IfIdle);
        }
        true
    }

    /// Returns whether a document is in the index.
    pub fn contains(&self, document: &DocumentId) -> bool {
        self.read().documents.contains_key(document)
    }

    /// Returns the number of windows that can be found.
    pub fn windows(&self) -> u64 {
        self.read().windows
    }

    /// Returns the memory that the index takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.read().memory_bytes()
    }

    /// Returns the best hits, sorted by descending score, then by document and window. Takes O(windows that contain a
    /// term).
    ///
    /// Ranks by BM25 with k₁ 1.2 and b 0.75. The lengths and the number of windows are exact. The number of windows
    /// with a term includes false positives of the sketches and, until their segment is rewritten, removed documents.
    pub fn search(&self, search: &Search<'_>) -> Vec<Hit> {
        let (segments, tail, windows, length) = {
            let state = self.read();
            (state.segments.clone(), state.tail.clone(), state.windows, state.length)
        };
        search::Snapshot { segments, tail, windows, length }.search(&self.key, search)
    }

    /// Turns the tail into a segment if it is long, rewrites segments with many tombstones, and merges segments.
    fn maintain(&self, maintenance: Maintenance) {
        let Some(_guard) = self.lock_maintenance(maintenance) else { return };
        let (tail_min, dead_max) = match maintenance {
            Maintenance::Compact => (1, 0),
            Maintenance::IfIdle | Maintenance::Await => (TAIL_WINDOWS, DEAD_PERCENT_MAX),
        };
        let (mut segments, tail) = {
            let state = self.read();
            let tail = if state.tail_windows >= tail_min { state.tail.clone() } else { Vec::new() };
            (state.segments.clone(), tail)
        };
        let mut dropped = 0;
        if !tail.is_empty() {
            segments.push(Arc::new(Segment::of_tail(&tail, &mut dropped)));
        }
        for segment in &mut segments {
            if 100 * segment.dead_windows() > dead_max * segment.windows() {
                *segment = Arc::new(Segment::merge(&[Arc::clone(segment)], &mut dropped));
            }
        }
        segments.retain(|segment| segment.windows() > 0);
        merge_similar(&mut segments, &mut dropped);
        let mut state = self.write();
        state.segments = segments;
        state.tail.drain(..tail.len());
        state.tail_windows = state.tail.iter().map(|document| document.document().windows() as usize).sum();
        self.dead_windows.fetch_sub(dropped, Ordering::Relaxed);
    }

    fn lock_maintenance(&self, maintenance: Maintenance) -> Option<MutexGuard<'_, ()>> {
        if maintenance != Maintenance::IfIdle {
            return Some(self.maintenance.lock().unwrap_or_else(PoisonError::into_inner));
        }
        match self.maintenance.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    // No code panics while it holds the lock with the state half changed, so a poisoned state is sound.

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Merges segments until their sizes fall geometrically from one to the next. So there are few, and each window is
/// merged O(log n) times.
fn merge_similar(segments: &mut Vec<Arc<Segment>>, dropped: &mut u64) {
    segments.sort_by_key(|segment| Reverse(segment.windows()));
    while let [.., larger, smaller] = &segments[..]
        && 2 * smaller.windows() > larger.windows()
    {
        let merged = Segment::merge(&segments.split_off(segments.len() - 2), dropped);
        segments.push(Arc::new(merged));
        segments.sort_by_key(|segment| Reverse(segment.windows()));
    }
}
