//! Sealed objects in a local folder, or in whatever else `object_store` speaks to. None is ever replaced.

pub mod availability;
pub mod backend;
pub mod envelope;
mod idempotent_write;
pub mod key;
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

use crate::object::backend::{Backend, BackendSettings};
use crate::object::envelope::{seal, unseal};
use crate::object::key::{KeyPrefix, ObjectKey, ObjectKind};
use crate::{Error, OpenError};

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// It is durable; the size of the object.
    Created { bytes: u64 },
    /// There was one already, which stays.
    AlreadyExists,
}

/// A store of sealed objects.
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    /// Set where the store is a local folder, which lists in no order; others list by name.
    folder: Option<PathBuf>,
}

impl Objects {
    /// Opens the backend.
    pub async fn open(settings: &BackendSettings) -> Result<Self, OpenError> {
        let Backend { store, folder } = Backend::open(settings).await?;
        Ok(Self { store, folder })
    }

    /// The folder, where it is a local one.
    pub fn folder(&self) -> Option<&FsPath> {
        self.folder.as_deref()
    }

    /// Reads an object's payload; the second number is the size of the object.
    pub async fn get(&self, kind: ObjectKind, name: &ObjectKey) -> Result<(Bytes, u64), Error> {
        let object = self.read(name).await?;
        let bytes = object.len() as u64;
        let payload = unseal(kind, name, object).map_err(|problem| Error::damaged(name, problem))?;
        Ok((payload, bytes))
    }

    /// Reads an object as it lies there.
    pub async fn read(&self, name: &ObjectKey) -> Result<Bytes, Error> {
        let found = self.store.get(name.path()).await.map_err(|error| Error::of(name, error))?;
        found.bytes().await.map_err(|error| Error::of(name, error))
    }

    /// Reads a part of an object as it lies there.
    pub async fn read_range(&self, name: &ObjectKey, range: Range<u64>) -> Result<Bytes, Error> {
        let Range { start, end } = range;
        let wanted = end - start;
        let read = self.store.get_range(name.path(), start..end).await;
        match read {
            Ok(bytes) if bytes.len() as u64 == wanted => Ok(bytes),
            Err(error @ object_store::Error::NotFound { .. }) => Err(Error::of(name, error)),
            // Every kind of store has an error of its own for a range past the end.
            Err(error) if self.size(name).await? >= end => Err(error.into()),
            _ => Err(Error::damaged(name, "it is cut short")),
        }
    }

    /// Size of an object, if it is there.
    pub async fn size(&self, name: &ObjectKey) -> Result<u64, Error> {
        let found = self.store.head(name.path()).await.map_err(|error| Error::of(name, error))?;
        Ok(found.size)
    }

    /// Seals an object and writes it, unless there is one of the name. It is durable when this returns.
    pub async fn put(&self, kind: ObjectKind, name: &ObjectKey, payload: &[u8]) -> Result<PutOutcome, Error> {
        self.write(name, seal(kind, name, payload)).await
    }

    /// Writes an object as it is, unless there is one of the name. It is durable when this returns.
    pub async fn write(&self, name: &ObjectKey, object: Bytes) -> Result<PutOutcome, Error> {
        let bytes = object.len() as u64;
        match self.store.put_opts(name.path(), object.into(), PutOptions::from(PutMode::Create)).await {
            Ok(_) => Ok(PutOutcome::Created { bytes }),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(PutOutcome::AlreadyExists),
            Err(error) => Err(error.into()),
        }
    }

    /// Seals an object and writes it in the place of a damaged one that held the same.
    pub async fn mend(&self, kind: ObjectKind, name: &ObjectKey, payload: &[u8]) -> Result<(), Error> {
        self.store.put(name.path(), seal(kind, name, payload).into()).await?;
        Ok(())
    }

    /// Removes an object, durably, if it is there.
    pub async fn delete(&self, name: &ObjectKey) -> Result<(), Error> {
        match self.store.delete(name.path()).await {
            Ok(()) => {}
            Err(object_store::Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        match &self.folder {
            Some(folder) => sync_parent(folder.join(name.path().as_ref())).await,
            None => Ok(()),
        }
    }

    /// Removes what killed gateways left of writes to a folder. Returns how many files there were, and their bytes.
    pub async fn remove_left(&self, grace: Duration) -> Result<(u64, u64), Error> {
        match self.folder.clone() {
            Some(folder) => in_folder(move || tempfiles::remove_left(&folder, grace)).await,
            None => Ok((0, 0)),
        }
    }

    /// All generations of an object that are there, oldest first.
    pub async fn generations(&self, family: &KeyPrefix) -> Result<Vec<ObjectKey>, Error> {
        let (whole, in_order) = (family.path().as_ref(), self.folder.is_none());
        let path = |part: &str| Path::parse(part).map_err(object_store::Error::from);
        let folder = path(whole.rsplit_once('/').map_or("", |(folder, _)| folder))?;
        // The name without its last digit comes just before it. A dot alone would be a folder.
        let before = path(&whole[..whole.len() - 1]).unwrap_or_else(|_| folder.clone());
        let objects = self.list(&folder, &before);
        pin_mut!(objects);
        let mut found = Vec::new();
        while let Some(object) = objects.try_next().await? {
            let location = object.location.as_ref();
            let name = ObjectKey::at(object.location.clone());
            match location.starts_with(whole) {
                true if name.split_version().0 == *family => found.push(name),
                true => {}
                false if in_order && location > whole => break,
                false => {}
            }
        }
        found.sort_by_key(|name| name.split_version().1);
        Ok(found)
    }

    /// What lies below a folder and, by name, after `offset`, in no order.
    pub fn list(
        &self,
        folder: &Path,
        offset: &Path,
    ) -> impl Stream<Item = Result<ObjectMeta, Error>> + Send + 'static {
        self.store.list_with_offset(Some(folder), offset).map_err(Error::from)
    }
}

/// `object_store` flushes the folder after a write, but not after a delete.
#[cfg(unix)]
async fn sync_parent(path: PathBuf) -> Result<(), Error> {
    let sync = move || {
        let parent = path.parent().expect("an object lies in a folder");
        std::fs::File::open(parent)?.sync_all()
    };
    in_folder(sync).await
}

#[cfg(not(unix))]
async fn sync_parent(_: PathBuf) -> Result<(), Error> {
    Ok(())
}

/// Requests to the backend that one operation makes at once.
pub const CONCURRENT_REQUESTS: usize = 16;

/// Returns whether an object was written at least `age` ago. Returns false for a time in the future, which a clock that
/// was set back leaves behind.
pub fn is_older_than(object: &ObjectMeta, age: Duration) -> bool {
    let written = u64::try_from(object.last_modified.timestamp_millis()).unwrap_or(0);
    let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    written.checked_add(age_ms).is_some_and(|due| due <= version::now_unix_ms())
}

/// What errors of our own work in a folder are marked with.
pub const FOLDER: &str = "folder";

/// Does work in a folder where it may block.
async fn in_folder<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Error> {
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
    async fn objects_are_kept_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open(&folder.path().to_str().unwrap().into()).await.unwrap();
        let (kind, id) = (ObjectKind::Manifest, DocumentId::of(b"a"));
        let name = key::manifest(id, Version::NONE);
        assert!(matches!(objects.get(kind, &name).await, Err(Error::Missing { .. })));
        objects.delete(&name).await.unwrap();

        let first = objects.put(kind, &name, b"first").await.unwrap();
        assert_eq!(first, PutOutcome::Created { bytes: 42 + 5 });
        assert_eq!(objects.put(kind, &name, b"second").await.unwrap(), PutOutcome::AlreadyExists);
        assert_eq!(objects.get(kind, &name).await.unwrap().0, "first");
        assert_eq!(objects.read_range(&name, 42..44).await.unwrap(), "fi");
        for past in [40..48, 50..60] {
            let read = objects.read_range(&name, past).await;
            assert!(matches!(read, Err(Error::Damaged { .. })), "{read:?}");
        }

        let newer = key::manifest(id, Version::after(Version::NONE));
        objects.put(kind, &newer, b"newer").await.unwrap();
        objects.put(kind, &key::manifest(DocumentId::of(b"b"), Version::NONE), b"other").await.unwrap();
        let all = objects.generations(&key::of_document(key::DOCUMENTS, id)).await.unwrap();
        assert_eq!(all, [name.clone(), newer]);
        objects.delete(&name).await.unwrap();
        assert!(matches!(objects.get(kind, &name).await, Err(Error::Missing { .. })));
    }
}
