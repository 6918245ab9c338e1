//! Validator that another version of a document may count by now, cheap to look at: what a reader who kept a manifest looks
//! at in the place of the store.
//!
//! Of a local folder they are the times at which `documents/<ab>` and `deleted/<ab>` last changed, which they do with
//! every file that is made or removed in them, by whomever, and how often the packs that this gateway knows have changed.
//! A version that is moved into a pack or out of it is the same version, and only a document's first version begins in a
//! pack. A cloud has no such signs.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use c3_types::DocumentId;

use crate::Store;
use crate::object::key::{DELETED, DOCUMENTS, folder_of};

/// How old a folder's last change must be to be told from the next: longer than any file system's clock takes to tick.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// The folders whose entries tell of a document.
#[derive(Debug)]
pub struct ValidatorPaths {
    documents: PathBuf,
    deleted: PathBuf,
}

/// What is seen of a document without reading anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validator {
    /// Last change of the folder, where there is one.
    documents: Option<SystemTime>,
    deleted: Option<SystemTime>,
    /// Changes of the packs that are known.
    packs: u64,
}

impl Validator {
    /// Whether any later change shows: none was so recent that the next might bear the same time.
    pub fn is_strong(&self) -> bool {
        let now = SystemTime::now();
        let old = |changed: SystemTime| now.duration_since(changed).is_ok_and(|age| age >= SETTLED_AFTER);
        self.documents.is_none_or(old) && self.deleted.is_none_or(old)
    }
}

impl Store {
    /// Where the signs of a document are seen; `None` where the store has none.
    pub fn validator_paths(&self, id: DocumentId) -> Option<ValidatorPaths> {
        let folder = self.objects.folder()?;
        let at = |kind| folder.join(folder_of(kind, id));
        Some(ValidatorPaths { documents: at(DOCUMENTS), deleted: at(DELETED) })
    }

    /// The signs, two looks at a folder's entry; `None` where nobody can tell.
    pub fn validator(&self, looks: &ValidatorPaths) -> Option<Validator> {
        // Before the folders: what is known of packs is part of what a manifest is chosen by.
        let packs = self.packs.changes();
        let (documents, deleted) = (changed(&looks.documents)?, changed(&looks.deleted)?);
        Some(Validator { documents, deleted, packs })
    }
}

/// When a folder last changed; `Some(None)` where it is not there, `None` where nobody can tell.
fn changed(folder: &Path) -> Option<Option<SystemTime>> {
    match std::fs::metadata(folder).and_then(|there| there.modified()) {
        Ok(changed) => Some(Some(changed)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(None),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_just_now_is_not_settled() {
        let now = SystemTime::now();
        let signs = |age: u64| {
            let documents = Some(now - Duration::from_secs(age));
            Validator { documents, deleted: None, packs: 0 }
        };
        assert!(signs(10).is_strong() && !signs(1).is_strong());
        // The clock was set back since.
        let ahead = Validator { documents: Some(now + Duration::from_secs(60)), deleted: None, packs: 0 };
        assert!(!ahead.is_strong());
        assert!(Validator { documents: None, deleted: None, packs: 0 }.is_strong());
    }
}
