//! Windows that a search looks at together.

use std::sync::Arc;

use super::document::{IndexedDocument, WindowEntry};
use crate::key::TermId;

/// Windows with postings: a segment, or one document of the tail.
pub(super) trait Block {
    /// Returns the windows. Those of one document are neighbours.
    fn entries(&self) -> &[WindowEntry];

    /// Returns a document by its index in the block.
    fn document(&self, index: u32) -> &Arc<IndexedDocument>;

    /// Returns the index of the first window of a document.
    fn first_window(&self, index: u32) -> u32;

    /// Calls `f` with each window that seems to contain a term, and the level of its count.
    fn for_each(&self, id: TermId, f: &mut dyn FnMut(u32, u8));
}
