//! Packs: objects that contain the manifests of many small documents.

mod compaction;
pub(crate) mod format;
pub(crate) mod group_commit;
pub(crate) mod index;
