//! Identity of a store: a random id in `meta/identity`, written when the store is created or first opened.
//!
//! An empty folder looks the same as the mount point of an unmounted disk. Before a gateway acknowledges a write or
//! reports an object as missing, it therefore checks that the identity is still the one that it read at its start.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error as BackendError, ObjectStore, ObjectStoreExt, PutMode};

use crate::Error;
use crate::availability::Unavailable;
use crate::object::layout::META;

/// Name of the file in [`META`].
const FILE: &str = "identity";

/// Identity of the store in a local folder.
pub(crate) struct Identity {
    file: PathBuf,
    id: Bytes,
    /// Modification time that the file had when a check last found the id in it.
    checked: Mutex<Option<SystemTime>>,
}

/// Reads the identity of a store. Writes one first if the store has none.
pub(crate) async fn load_or_create(store: &dyn ObjectStore) -> object_store::Result<Bytes> {
    let path = Path::from_iter([META, FILE]);
    match store.get(&path).await {
        Err(BackendError::NotFound { .. }) => {}
        read => return read?.bytes().await,
    }
    let id = format!("{:032x}\n", fastrand::u128(..));
    match store.put_opts(&path, Bytes::from(id).into(), PutMode::Create.into()).await {
        // `AlreadyExists`: another gateway has opened the store at the same time.
        Ok(_) | Err(BackendError::AlreadyExists { .. }) => store.get(&path).await?.bytes().await,
        Err(error) => Err(error),
    }
}

impl Identity {
    /// Creates the check that the store at `root` still has the identity `id`.
    pub(crate) fn new(root: &std::path::Path, id: Bytes) -> Self {
        Self { file: root.join(META).join(FILE), id, checked: Mutex::default() }
    }

    /// Fails if the store has vanished, or another one is in its place. Costs one `stat` unless the identity file has
    /// changed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let details = || self.file.display().to_string();
        match self.is_unchanged() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::unavailable(Unavailable::Replaced, details())),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Err(Error::unavailable(Unavailable::Vanished, details()))
            }
            Err(error) => Err(Error::from_io(error)),
        }
    }

    fn is_unchanged(&self) -> io::Result<bool> {
        let modified = Some(fs::metadata(&self.file)?.modified()?);
        // The lock is never poisoned: no code panics while it holds it.
        let checked = || self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if *checked() == modified {
            return Ok(true);
        }
        let is_same = fs::read(&self.file)? == self.id;
        if is_same {
            *checked() = modified;
        }
        Ok(is_same)
    }
}

#[cfg(test)]
mod tests {
    use c3_types::DocumentId;

    use super::*;
    use crate::object::key::{self, DOCUMENTS, ObjectKey};
    use crate::object::version::Version;
    use crate::object::{Objects, Space};

    /// Runs each operation. Returns the reason for which each one found the store unavailable; `None` if it did not.
    async fn reasons(objects: &Objects, key: &ObjectKey) -> Vec<Option<Unavailable>> {
        let id = DocumentId::of(b"a");
        let results = [
            objects.get(key).await.map(drop),
            objects.read_range(key, 0..1).await.map(drop),
            objects.exists(key).await.map(drop),
            objects.versions(&key::document_prefix(DOCUMENTS, id)).await.map(drop),
            objects.delete(key).await,
            objects.put(&key::manifest(id, Version::after(Version::NONE)), b"new", Space::Free).await.map(drop),
            objects.put(&key::tombstone(id, Version::NONE), b"", Space::Reserve).await.map(drop),
        ];
        let reason = |result: Result<(), Error>| match result {
            Err(Error::Unavailable { reason, .. }) => Some(reason),
            _ => None,
        };
        results.into_iter().map(reason).collect()
    }

    #[tokio::test]
    async fn a_store_that_vanished_or_was_replaced_is_unavailable_until_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let open = async |name: &str| Objects::open(&at(name).to_str().unwrap().into()).await.unwrap();
        let (objects, _) = (open("data").await, open("other").await);
        let key = key::manifest(DocumentId::of(b"a"), Version::after(Version::NONE));
        objects.put(&key, b"text", Space::Free).await.unwrap();

        fs::rename(at("data"), at("away")).unwrap();
        assert_eq!(reasons(&objects, &key).await, [Some(Unavailable::Vanished); 7]);
        assert!(!at("data").exists());
        fs::create_dir(at("data")).unwrap();
        assert_eq!(reasons(&objects, &key).await, [Some(Unavailable::Vanished); 7]);
        assert_eq!(fs::read_dir(at("data")).unwrap().count(), 0);
        fs::remove_dir(at("data")).unwrap();

        fs::rename(at("other"), at("data")).unwrap();
        assert_eq!(reasons(&objects, &key).await, [Some(Unavailable::Replaced); 7]);
        fs::rename(at("data"), at("other")).unwrap();

        fs::rename(at("away"), at("data")).unwrap();
        assert_eq!(objects.get(&key).await.unwrap().0, "text");
        assert_eq!(reasons(&objects, &key).await, [None; 7]);
    }
}
