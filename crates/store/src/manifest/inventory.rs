//! The copies of manifests that a store holds, and which of them is current.

use std::collections::HashMap;
use std::ops::Range;

use c3_types::DocumentId;
use object_store::ObjectMeta;

use crate::object::key::ObjectKey;
use crate::object::version::Version;

/// A version of a document, and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedVersion {
    pub version: Version,
    pub location: Location,
}

/// Where a version of a document lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    Object,
    Pack { pack: ObjectKey, range: Range<u64> },
}

/// A manifest that is there.
#[derive(Clone, Debug)]
pub struct ManifestCopy {
    pub id: DocumentId,
    pub found: LocatedVersion,
    /// When an object by itself was written.
    pub object: Option<ObjectMeta>,
}

/// All that is there of documents.
pub struct Inventory {
    /// Every copy of every version, by document and version.
    pub copies: Vec<ManifestCopy>,
    /// The highest tombstone of a document.
    pub deleted: HashMap<DocumentId, Version>,
}

impl Inventory {
    /// The copies of a document.
    pub fn of(&self, id: DocumentId) -> impl Iterator<Item = &ManifestCopy> {
        let first = self.copies.partition_point(|copy| copy.id < id);
        self.copies[first..].iter().take_while(move |copy| copy.id == id)
    }

    /// The highest version of each document, whether or not it is deleted.
    pub fn highest(&self) -> HashMap<DocumentId, Version> {
        // Sorted by version: the last stays.
        self.copies.iter().map(|copy| (copy.id, copy.found.version)).collect()
    }

    /// Whether this version counts among `highest`.
    pub fn counts(&self, copy: &ManifestCopy, highest: &HashMap<DocumentId, Version>) -> bool {
        let version = copy.found.version;
        highest.get(&copy.id) == Some(&version)
            && self.deleted.get(&copy.id).is_none_or(|&deleted| deleted < version)
    }
}
