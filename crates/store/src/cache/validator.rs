//! Cache validator of a manifest: a value that is cheap to read, and that changes as soon as another version may be
//! current.
//!
//! For a local folder, it consists of the modification times of two subfolders, `documents/<ab>` for manifests and
//! `deleted/<ab>` for tombstones, and of the number of changes of the pack index. `<ab>` is the first two digits of the
//! document's id. The times change whenever any gateway creates or removes a file in these subfolders. Packs that other
//! gateways write need no check: no new version of an existing document is put into a pack, and moving a version does
//! not change the document. Clouds have no such times, so their manifests are not cached.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use c3_types::DocumentId;

use crate::Store;
use crate::object::key::{DELETED, DOCUMENTS, document_folder};

/// Minimum age of a modification time at which every later change is sure to set a different time. It exceeds the
/// resolution of the timestamps of any file system.
const STRONG_AFTER: Duration = Duration::from_secs(3);

/// Paths of the folders whose modification times validate a document's manifest.
#[derive(Debug)]
pub(crate) struct ValidatorPaths {
    documents: PathBuf,
    deleted: PathBuf,
}

/// A cache validator. A cached manifest is valid while its validator equals the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validator {
    /// Modification time of the subfolder of manifests; `None` if the subfolder does not exist.
    documents: Option<SystemTime>,
    /// Modification time of the subfolder of tombstones; `None` if the subfolder does not exist.
    deleted: Option<SystemTime>,
    /// Number of changes of the pack index.
    packs: u64,
}

impl Validator {
    /// Returns whether every later change results in a different validator. False if a modification time is too recent.
    pub(crate) fn is_strong(&self) -> bool {
        let now = SystemTime::now();
        let old = |changed: SystemTime| now.duration_since(changed).is_ok_and(|age| age >= STRONG_AFTER);
        self.documents.is_none_or(old) && self.deleted.is_none_or(old)
    }
}

impl Store {
    /// Returns the paths of the folders that validate a document's manifest; `None` for a cloud.
    pub(crate) fn validator_paths(&self, id: DocumentId) -> Option<ValidatorPaths> {
        let folder = self.objects.folder()?;
        let path = |kind| folder.join(document_folder(kind, id));
        Some(ValidatorPaths { documents: path(DOCUMENTS), deleted: path(DELETED) })
    }

    /// Reads the current validator; `None` if a folder exists but cannot be read.
    pub(crate) fn validator(&self, paths: &ValidatorPaths) -> Option<Validator> {
        // The number is read before the folders: if the pack index changes in between, this validator never equals a
        // later one.
        let packs = self.packs.changes();
        let (documents, deleted) = (modified(&paths.documents)?, modified(&paths.deleted)?);
        Some(Validator { documents, deleted, packs })
    }
}

/// Returns the modification time of a folder: `Some(None)` if it does not exist, `None` if it cannot be read.
fn modified(folder: &Path) -> Option<Option<SystemTime>> {
    match std::fs::metadata(folder).and_then(|metadata| metadata.modified()) {
        Ok(modified) => Some(Some(modified)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(None),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recent_change_makes_no_strong_validator() {
        let now = SystemTime::now();
        let validator = |age: u64| {
            let documents = Some(now - Duration::from_secs(age));
            Validator { documents, deleted: None, packs: 0 }
        };
        assert!(validator(10).is_strong() && !validator(1).is_strong());
        // The modification time is in the future, as after the clock was set back.
        let ahead = Validator { documents: Some(now + Duration::from_secs(60)), deleted: None, packs: 0 };
        assert!(!ahead.is_strong());
        assert!(Validator { documents: None, deleted: None, packs: 0 }.is_strong());
    }
}
