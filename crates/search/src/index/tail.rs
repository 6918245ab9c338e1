//! Documents that are not yet in a segment.

use std::sync::Arc;

use c3_types::DocumentId;

use super::IndexedWindow;
use super::block::Block;
use super::document::{IndexedDocument, WindowEntry};
use crate::key::TermId;
use crate::sketch::Sketch;

/// Recently added document. A search scans its sketches.
#[derive(Debug)]
pub(super) struct TailDocument {
    document: Arc<IndexedDocument>,
    entries: Vec<WindowEntry>,
    sketches: Vec<Sketch>,
}

impl TailDocument {
    pub(super) fn new(id: DocumentId, windows: Vec<IndexedWindow>) -> Self {
        let document = Arc::new(IndexedDocument::new(id, &windows));
        let entries = windows.iter().map(|window| WindowEntry::new(window, 0)).collect();
        let sketches = windows.into_iter().map(|window| window.sketch).collect();
        Self { document, entries, sketches }
    }

    pub(super) fn document(&self) -> &Arc<IndexedDocument> {
        &self.document
    }

    pub(super) fn sketches(&self) -> &[Sketch] {
        &self.sketches
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let window = size_of::<WindowEntry>() + size_of::<Sketch>();
        let terms = self.sketches.iter().map(|sketch| size_of_val(sketch.terms())).sum::<usize>();
        size_of::<Self>() + self.entries.len() * window + terms
    }
}

impl Block for TailDocument {
    fn entries(&self) -> &[WindowEntry] {
        &self.entries
    }

    fn document(&self, _index: u32) -> &Arc<IndexedDocument> {
        &self.document
    }

    fn first_window(&self, _index: u32) -> u32 {
        0
    }

    fn for_each(&self, id: TermId, f: &mut dyn FnMut(u32, u8)) {
        for (sketch, window) in self.sketches.iter().zip(0..) {
            if let Some(level) = sketch.level(id) {
                f(window, level);
            }
        }
    }
}
