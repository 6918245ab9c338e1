//! Packs: objects that hold the manifests of many small documents.

mod compaction;
pub mod format;
pub mod group_commit;
pub mod index;
