//! Checksummed objects in a local folder or in a cloud, through `object_store`. Only `Objects::restore` overwrites.

pub(crate) mod backend;
pub(crate) mod envelope;
mod idempotent_write;
pub mod key;
mod listing;
mod tempfiles;
pub mod version;

use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, TryStreamExt, pin_mut};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::availability::FOLDER;
use crate::object::backend::{Backend, BackendSettings};
use crate::object::envelope::{seal, unseal};
use crate::object::key::{KeyPrefix, ObjectKey};
use crate::{Error, OpenError};

/// Maximum concurrent backend requests of one operation.
pub(crate) const CONCURRENT_REQUESTS: usize = 16;

/// Result of a conditional create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutOutcome {
    /// The object is durable.
    Created {
        /// Size of the object in bytes, including the envelope.
        bytes: u64,
    },
    /// An object with this key already exists and was not changed.
    AlreadyExists,
}

/// A store of checksummed objects.
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    /// Root of a local folder; `None` for a cloud. Clouds list objects in key order, a folder in no particular order.
    folder: Option<PathBuf>,
}

impl Objects {
    /// Opens the backend and checks that it is writable.
    pub(crate) async fn open(settings: &BackendSettings) -> Result<Self, OpenError> {
        let Backend { store, folder } = Backend::open(settings).await?;
        Ok(Self { store, folder })
    }

    /// Returns the root of the local folder; `None` for a cloud.
    pub(crate) fn folder(&self) -> Option<&FsPath> {
        self.folder.as_deref()
    }

    /// Reads an object and checks its envelope. Returns the payload, and the size of the whole object in bytes.
    pub(crate) async fn get(&self, key: &ObjectKey) -> Result<(Bytes, u64), Error> {
        let object = self.read(key).await?;
        let bytes = object.len() as u64;
        let payload = unseal(key, object).map_err(|problem| Error::damaged(key, problem))?;
        Ok((payload, bytes))
    }

    /// Reads an object with its envelope, without checking it.
    pub(crate) async fn read(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        let object = self.store.get(key.path()).await.map_err(|error| Error::from_backend(key, error))?;
        object.bytes().await.map_err(|error| Error::from_backend(key, error))
    }

    /// Reads a byte range of an object, without checking it. Returns [`Error::Damaged`] if the object is shorter.
    pub(crate) async fn read_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, Error> {
        let Range { start, end } = range;
        match self.store.get_range(key.path(), start..end).await {
            Ok(bytes) if bytes.len() as u64 == end - start => Ok(bytes),
            Err(error @ object_store::Error::NotFound { .. }) => Err(Error::from_backend(key, error)),
            // Backends return different errors for a range past the end, so the size of the object decides.
            Err(error) if self.size(key).await? >= end => Err(error.into()),
            _ => Err(Error::damaged(key, "it is cut short")),
        }
    }

    /// Returns the size of an object in bytes, including the envelope.
    pub(crate) async fn size(&self, key: &ObjectKey) -> Result<u64, Error> {
        let metadata = self.store.head(key.path()).await.map_err(|error| Error::from_backend(key, error))?;
        Ok(metadata.size)
    }

    /// Returns whether an object exists.
    pub(crate) async fn exists(&self, key: &ObjectKey) -> Result<bool, Error> {
        match self.size(key).await {
            Ok(_) => Ok(true),
            Err(Error::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Seals a payload and creates the object, unless the key exists. A created object is durable on return.
    pub(crate) async fn put(&self, key: &ObjectKey, payload: &[u8]) -> Result<PutOutcome, Error> {
        self.write(key, seal(key, payload)).await
    }

    /// Creates an object that is already sealed, unless the key exists. A created object is durable on return.
    pub(crate) async fn write(&self, key: &ObjectKey, object: Bytes) -> Result<PutOutcome, Error> {
        let bytes = object.len() as u64;
        match self.store.put_opts(key.path(), object.into(), PutOptions::from(PutMode::Create)).await {
            Ok(_) => Ok(PutOutcome::Created { bytes }),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(PutOutcome::AlreadyExists),
            Err(error) => Err(error.into()),
        }
    }

    /// Overwrites a damaged object. `payload` must be the one that it was created with.
    pub(crate) async fn restore(&self, key: &ObjectKey, payload: &[u8]) -> Result<(), Error> {
        self.store.put(key.path(), seal(key, payload).into()).await?;
        Ok(())
    }

    /// Deletes an object durably. Succeeds if the object does not exist.
    pub(crate) async fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        match self.store.delete(key.path()).await {
            Ok(()) => {}
            Err(object_store::Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        match &self.folder {
            Some(folder) => sync_parent(folder.join(key.path().as_ref())).await,
            None => Ok(()),
        }
    }

    /// Removes old temporary files, which killed gateways leave in a local folder. Returns their number and bytes.
    pub(crate) async fn remove_stale(&self, grace: Duration) -> Result<(u64, u64), Error> {
        match self.folder.clone() {
            Some(folder) => blocking(move || tempfiles::remove_stale(&folder, grace)).await,
            None => Ok((0, 0)),
        }
    }

    /// Returns the keys of all existing versions with this prefix, lowest version first.
    pub(crate) async fn versions(&self, prefix: &KeyPrefix) -> Result<Vec<ObjectKey>, Error> {
        let found = self.local_versions(prefix).await;
        if !found.is_empty() {
            return Ok(found);
        }
        let (whole, is_sorted) = (prefix.path().as_ref(), self.folder.is_none());
        let path = |part: &str| Path::parse(part).map_err(object_store::Error::from);
        let folder = path(whole.rsplit_once('/').map_or("", |(folder, _)| folder))?;
        // A listing excludes its offset, so this is the prefix without its last character. A lone dot is no valid path.
        let offset = path(&whole[..whole.len() - 1]).unwrap_or_else(|_| folder.clone());
        let objects = self.list(&folder, &offset);
        pin_mut!(objects);
        let mut keys = Vec::new();
        while let Some(object) = objects.try_next().await? {
            let location = object.location.as_ref();
            let key = ObjectKey::from_path(object.location.clone());
            match location.starts_with(whole) {
                true if key.split_version().0 == *prefix => keys.push(key),
                true => {}
                false if is_sorted && location > whole => break,
                false => {}
            }
        }
        keys.sort_by_key(|key| key.split_version().1);
        Ok(keys)
    }

    /// Lists the objects in a folder and its subfolders whose keys follow `offset`, in no guaranteed order.
    pub(crate) fn list(
        &self,
        folder: &Path,
        offset: &Path,
    ) -> impl Stream<Item = Result<ObjectMeta, Error>> + Send + 'static {
        self.store.list_with_offset(Some(folder), offset).map_err(Error::from)
    }
}

/// Flushes the folder of a deleted file to disk. `object_store` flushes folders only after writes.
#[cfg(unix)]
async fn sync_parent(path: PathBuf) -> Result<(), Error> {
    let sync = move || {
        let parent = path.parent().expect("every object is in a folder");
        std::fs::File::open(parent)?.sync_all()
    };
    blocking(sync).await
}

#[cfg(not(unix))]
async fn sync_parent(_: PathBuf) -> Result<(), Error> {
    Ok(())
}

/// Returns whether an object was written at least `age` ago. Returns false if its time of writing is in the future, as
/// after the clock was set back.
pub(crate) fn is_older_than(object: &ObjectMeta, age: Duration) -> bool {
    let written = u64::try_from(object.last_modified.timestamp_millis()).unwrap_or(0);
    let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    written.checked_add(age_ms).is_some_and(|due| due <= version::now_unix_ms())
}

/// Runs blocking file operations on tokio's thread pool for blocking work.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::from).flatten();
    done.map_err(|source| object_store::Error::Generic { store: FOLDER, source: source.into() }.into())
}

#[cfg(test)]
mod tests {
    use c3_types::DocumentId;

    use super::*;
    use crate::object::key;
    use crate::object::version::Version;

    #[tokio::test]
    async fn objects_are_created_once_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open(&folder.path().to_str().unwrap().into()).await.unwrap();
        let id = DocumentId::of(b"a");
        let key = key::manifest(id, Version::NONE);
        assert!(matches!(objects.get(&key).await, Err(Error::Missing { .. })));
        objects.delete(&key).await.unwrap();

        let first = objects.put(&key, b"first").await.unwrap();
        assert_eq!(first, PutOutcome::Created { bytes: 42 + 5 });
        assert_eq!(objects.put(&key, b"second").await.unwrap(), PutOutcome::AlreadyExists);
        assert_eq!(objects.get(&key).await.unwrap().0, "first");
        assert_eq!(objects.read_range(&key, 42..44).await.unwrap(), "fi");
        for past in [40..48, 50..60] {
            let read = objects.read_range(&key, past).await;
            assert!(matches!(read, Err(Error::Damaged { .. })), "{read:?}");
        }

        let newer = key::manifest(id, Version::after(Version::NONE));
        objects.put(&newer, b"newer").await.unwrap();
        objects.put(&key::manifest(DocumentId::of(b"b"), Version::NONE), b"other").await.unwrap();
        let all = objects.versions(&key::document_prefix(key::DOCUMENTS, id)).await.unwrap();
        assert_eq!(all, [key.clone(), newer]);
        objects.delete(&key).await.unwrap();
        assert!(matches!(objects.get(&key).await, Err(Error::Missing { .. })));
    }
}
