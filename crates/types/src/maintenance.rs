//! Reports of garbage collection and of the consistency check.

use serde::Serialize;

use crate::DocumentId;

/// Result of a garbage collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SweepSummary {
    /// Unreferenced objects that were put on a list of pending deletes.
    pub pending_deletes: u64,
    /// Objects that were removed.
    pub removed: u64,
    /// Bytes of the removed objects.
    pub removed_bytes: u64,
    /// Expired documents that were deleted.
    pub expired: u64,
    /// Documents that compaction moved into new packs.
    pub packed: u64,
    /// Manifests that cannot be read. If there is one, no shard's object is removed.
    pub unreadable: u64,
}

/// Treatment of the faults that a consistency check finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsckMode {
    /// Reports faults and changes nothing.
    Report,
    /// Repairs what can be repaired without the text.
    Repair,
}

/// Event of a consistency check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FsckEvent {
    /// An object has a fault.
    Finding(Finding),
    /// All objects were read. The last event.
    Done(FsckSummary),
}

/// A fault of an object, reported once for each document that it affects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Key of the object in the store.
    pub object: String,
    /// The fault.
    pub problem: String,
    /// The affected windows; `None` if no document is affected.
    #[serde(flatten)]
    pub affected: Option<AffectedWindows>,
    /// The fault was repaired.
    pub repaired: bool,
}

/// Windows of a document that a fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AffectedWindows {
    /// The document.
    pub document: DocumentId,
    /// Number of the first window, if `windows` is not 0.
    pub first_window: u64,
    /// Number of windows; 0: the whole document.
    pub windows: u64,
}

/// Extent of a consistency check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FsckSummary {
    /// Objects that were read.
    pub objects: u64,
    /// Documents that were read.
    pub documents: u64,
}
