//! Cache validator of a manifest: a value that is cheap to read, and that changes as soon as another version may be
//! current.
//!
//! For a local folder, it consists of the modification times of two subfolders, `documents/<ab>` for manifests and
//! `deleted/<ab>` for tombstones, and of the number of changes of the pack index. `<ab>` is the first two digits of the
//! document's id. In an encrypted store, the corresponding encrypted subfolders are used, and both while it is being
//! encrypted in place. The times change whenever any gateway creates or removes a file in these subfolders. Packs that
//! other gateways write need no check: no new version of an existing document is put into a pack, and moving a version
//! does not change the document. Clouds have no such times, so their manifests are not cached.

use std::path::{Path as FsPath, PathBuf};
use std::time::{Duration, SystemTime};

use c3_types::DocumentId;
use object_store::path::Path;

use crate::Store;
use crate::object::key::{DELETED, DOCUMENTS, document_folder};

/// Minimum age of a modification time at which every later change is sure to set a different time. It exceeds the
/// resolution of the timestamps of any file system.
const STRONG_AFTER: Duration = Duration::from_secs(3);

/// Paths of the folders whose modification times validate a document's manifest.
#[derive(Debug)]
pub(crate) struct ValidatorPaths(Vec<PathBuf>);

/// A cache validator. A cached manifest is valid while its validator equals the current one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Validator {
    /// Modification times of the subfolders of manifests and tombstones; `None` for one that does not exist.
    modified: Vec<Option<SystemTime>>,
    /// Number of changes of the pack index.
    packs: u64,
}

impl Validator {
    /// Returns whether every later change results in a different validator. False if a modification time is too recent.
    pub(crate) fn is_strong(&self) -> bool {
        let now = SystemTime::now();
        let old = |changed: SystemTime| now.duration_since(changed).is_ok_and(|age| age >= STRONG_AFTER);
        self.modified.iter().flatten().copied().all(old)
    }
}

impl Store {
    /// Returns the paths of the folders that validate a document's manifest; `None` for a cloud.
    pub(crate) fn validator_paths(&self, id: DocumentId) -> Option<ValidatorPaths> {
        let (folder, ring) = (self.objects.folder()?, self.objects.keys().fresh()?);
        let folders = [DOCUMENTS, DELETED].map(|kind| Path::from(document_folder(kind, id)));
        let paths = ring.realms().flat_map(|realm| folders.each_ref().map(|folder| ring.path(realm, folder)));
        Some(ValidatorPaths(paths.map(|path| folder.join(path.as_ref())).collect()))
    }

    /// Reads the current validator; `None` if a folder exists but cannot be read.
    pub(crate) fn validator(&self, paths: &ValidatorPaths) -> Option<Validator> {
        // The number is read before the folders: if the pack index changes in between, this validator never equals a
        // later one.
        let packs = self.packs.changes();
        let modified = paths.0.iter().map(|path| modified(path)).collect::<Option<_>>()?;
        Some(Validator { modified, packs })
    }
}

/// Returns the modification time of a folder: `Some(None)` if it does not exist, `None` if it cannot be read.
fn modified(folder: &FsPath) -> Option<Option<SystemTime>> {
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
        let aged = |age: u64| Validator { modified: vec![Some(now - Duration::from_secs(age)), None], packs: 0 };
        assert!(aged(10).is_strong() && !aged(1).is_strong());
        // The modification time is in the future, as after the clock was set back.
        let ahead = Validator { modified: vec![Some(now + Duration::from_secs(60))], packs: 0 };
        assert!(!ahead.is_strong());
        assert!(Validator { modified: vec![None, None], packs: 0 }.is_strong());
    }
}
