//! Reports of garbage collection and of the consistency check.

use serde::Serialize;

use crate::DocumentId;

/// Result of one run of garbage collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SweepSummary {
    /// Number of unreferenced objects that this run put on a list of pending deletes.
    pub pending_deletes: u64,
    /// Number of objects that were removed.
    pub removed: u64,
    /// Bytes of the removed objects.
    pub removed_bytes: u64,
    /// Number of expired documents that were deleted.
    pub expired: u64,
    /// Number of documents that compaction moved into new packs. A pack is an object that several small documents
    /// share.
    pub packed: u64,
    /// Number of manifests and packs that cannot be read. If it is not 0, no latents, corrections, names or labels are
    /// removed.
    pub unreadable: u64,
}

/// Action on the faults that a consistency check finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsckMode {
    /// Reports faults without changing the store.
    Report,
    /// Also repairs the faults that can be repaired without the document's text.
    Repair,
}

/// Event of a consistency check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FsckEvent {
    /// Progress, in documents, which contain nearly all data.
    Progress {
        /// Documents that were checked.
        documents: u64,
        /// Documents in all.
        documents_total: u64,
    },
    /// A fault of an object.
    Finding(Finding),
    /// All objects were read. This is the last event.
    Done(FsckSummary),
}

/// A fault of an object, reported once for each document that it affects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Key of the object in the store.
    pub object: String,
    /// Description of the fault.
    pub problem: String,
    /// Affected windows of a document; `None` if no document is affected.
    #[serde(flatten)]
    pub affected: Option<AffectedWindows>,
    /// True if the fault was repaired.
    pub repaired: bool,
}

/// Windows of a document that a fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AffectedWindows {
    /// The document.
    pub document: DocumentId,
    /// Index of the first affected window in the document, from 0. Meaningless if `windows` is 0.
    pub first_window: u64,
    /// Number of consecutive affected windows; 0: the whole document.
    pub windows: u64,
}

/// Summary of a consistency check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FsckSummary {
    /// Number of objects that were read.
    pub objects: u64,
    /// Number of documents that were read.
    pub documents: u64,
    /// Number of files, folders or keys of other programs, which were skipped.
    pub foreign: u64,
}
