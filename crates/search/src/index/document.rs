//! Document in the index, with its tombstone.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use c3_types::DocumentId;

use super::IndexedWindow;

/// Document that the index contains or contained. Shared by the state and by the segment with its postings.
#[derive(Debug)]
pub(super) struct IndexedDocument {
    id: DocumentId,
    windows: u32,
    length: u64,
    is_removed: AtomicBool,
}

impl IndexedDocument {
    pub(super) fn new(id: DocumentId, windows: &[IndexedWindow]) -> Self {
        let length = windows.iter().map(|window| u64::from(window.sketch.length())).sum();
        Self { id, windows: windows.len() as u32, length, is_removed: AtomicBool::new(false) }
    }

    pub(super) fn id(&self) -> &DocumentId {
        &self.id
    }

    pub(super) fn windows(&self) -> u32 {
        self.windows
    }

    /// Returns the sum of the lengths of its windows in terms.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Sets the tombstone.
    pub(super) fn remove(&self) {
        self.is_removed.store(true, Ordering::Release);
    }

    pub(super) fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Acquire)
    }
}

/// Window of a document in a segment or in the tail.
#[derive(Clone, Debug)]
pub(super) struct WindowEntry {
    start: u64,
    bytes: u32,
    /// Length in terms.
    pub(super) length: u32,
    /// Index of the document in its segment.
    pub(super) document: u32,
    /// True if its last term may continue in the next window.
    pub(super) is_open: bool,
}

impl WindowEntry {
    pub(super) fn new(window: &IndexedWindow, document: u32) -> Self {
        let bytes = window.bytes.end.saturating_sub(window.bytes.start).min(u32::MAX.into()) as u32;
        let sketch = &window.sketch;
        Self { start: window.bytes.start, bytes, length: sketch.length(), document, is_open: sketch.is_open() }
    }

    /// Returns the window as a window of another document index.
    pub(super) fn moved_to(&self, document: u32) -> Self {
        Self { document, ..self.clone() }
    }

    /// Returns the byte range in the document.
    pub(super) fn bytes(&self) -> Range<u64> {
        self.start..self.start + u64::from(self.bytes)
    }
}
