//! Inventory of all copies of manifests in a store. It determines which copies are current.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use c3_types::DocumentId;
use object_store::ObjectMeta;

use crate::object::key::ObjectKey;
use crate::object::version::Version;

/// A version of a document and its location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedVersion {
    /// Version of the manifest.
    pub version: Version,
    /// Location of the manifest.
    pub location: Location,
}

/// Location of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// An object of its own.
    Object,
    /// A record of a pack.
    Pack {
        /// Key of the pack.
        pack: ObjectKey,
        /// Byte range of the record.
        range: Range<u64>,
    },
}

/// One copy of a manifest.
#[derive(Clone, Debug)]
pub(crate) struct ManifestCopy {
    pub(crate) id: DocumentId,
    pub(crate) located: LocatedVersion,
    /// Metadata of the object; `None` for a record of a pack.
    pub(crate) object: Option<ObjectMeta>,
}

/// All copies of all manifests, and all tombstones, when they were listed.
pub(crate) struct Inventory {
    /// Copies, sorted by document and version.
    pub(crate) copies: Vec<ManifestCopy>,
    /// Highest version that a tombstone deletes, for each document that has a tombstone.
    pub(crate) deleted: BTreeMap<DocumentId, Version>,
}

impl Inventory {
    /// Iterates over the copies of a document.
    pub(crate) fn copies_of(&self, id: DocumentId) -> impl Iterator<Item = &ManifestCopy> {
        let first = self.copies.partition_point(|copy| copy.id < id);
        self.copies[first..].iter().take_while(move |copy| copy.id == id)
    }

    /// Returns the highest version of each document, including deleted versions.
    pub(crate) fn newest(&self) -> HashMap<DocumentId, Version> {
        // Copies are sorted by version, so the last one collected for a document is its highest.
        self.copies.iter().map(|copy| (copy.id, copy.located.version)).collect()
    }

    /// Returns whether a copy has the highest version of its document, according to `newest`, and no tombstone deletes
    /// it.
    pub(crate) fn is_current(&self, copy: &ManifestCopy, newest: &HashMap<DocumentId, Version>) -> bool {
        let version = copy.located.version;
        newest.get(&copy.id) == Some(&version) && self.deleted.get(&copy.id).is_none_or(|&deleted| deleted < version)
    }
}
