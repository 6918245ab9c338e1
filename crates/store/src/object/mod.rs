//! Sealed objects in a local folder, or in whatever else `object_store` speaks to. None is ever replaced.

use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, TryStreamExt, pin_mut};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::backend::{Backend, BackendSettings};
use super::layout::{Family, Name, ObjectKind};
use super::seal::{seal, unseal};
use super::staging;
use super::trouble::Trouble;
use crate::error::Error;

/// Why an object cannot be had or kept.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// It is not there.
    #[error("{object} is missing")]
    Missing { object: String },
    /// It is not what was written.
    #[error("{object} is damaged: {problem}")]
    Damaged { object: String, problem: String },
    /// A sweep took it while a document was being made of it.
    #[error("{object} was swept away while the text was stored: put it again")]
    Swept { object: String },
    /// The gateway is about to end.
    #[error("the gateway ends: put the text again")]
    Ended,
    /// The store cannot do it just now.
    #[error("{trouble} ({source})")]
    Unable { trouble: Trouble, source: Arc<object_store::Error> },
    /// The store itself fails.
    #[error("store: {0}")]
    Io(Arc<object_store::Error>),
}

impl StoreError {
    /// An object that does not hold what it must.
    pub(crate) fn damaged(name: &Name, problem: impl Into<String>) -> Self {
        Self::Damaged { object: name.to_string(), problem: problem.into() }
    }

    fn of(name: &Name, error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::Missing { object: name.to_string() },
            error => Self::from(error),
        }
    }
}

impl From<object_store::Error> for StoreError {
    fn from(error: object_store::Error) -> Self {
        match Trouble::of(&error) {
            Some(trouble) => Self::Unable { trouble, source: Arc::new(error) },
            None => Self::Io(Arc::new(error)),
        }
    }
}

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is durable; the size of the object.
    Durably { bytes: u64 },
    /// There was one already, which stays.
    Kept,
}

/// A store of sealed objects.
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    /// Set where the store is a local folder, which lists in no order; others list by name.
    folder: Option<PathBuf>,
}

impl Objects {
    /// Opens the backend.
    pub(crate) async fn open(settings: &BackendSettings) -> Result<Self, Error> {
        let Backend { store, folder } = Backend::open(settings).await?;
        Ok(Self { store, folder })
    }

    /// The folder, where it is a local one.
    pub(crate) fn folder(&self) -> Option<&FsPath> {
        self.folder.as_deref()
    }

    /// Reads an object's payload; the second number is the size of the object.
    pub(crate) async fn get(&self, kind: ObjectKind, name: &Name) -> Result<(Bytes, u64), StoreError> {
        let object = self.read(name).await?;
        let bytes = object.len() as u64;
        let payload = unseal(kind, name, object).map_err(|problem| StoreError::damaged(name, problem))?;
        Ok((payload, bytes))
    }

    /// Reads an object as it lies there.
    pub(crate) async fn read(&self, name: &Name) -> Result<Bytes, StoreError> {
        let found = self.store.get(name.path()).await.map_err(|error| StoreError::of(name, error))?;
        found.bytes().await.map_err(|error| StoreError::of(name, error))
    }

    /// Reads a part of an object as it lies there.
    pub(crate) async fn read_range(&self, name: &Name, range: Range<u64>) -> Result<Bytes, StoreError> {
        let Range { start, end } = range;
        let wanted = end - start;
        let read = self.store.get_range(name.path(), start..end).await;
        match read {
            Ok(bytes) if bytes.len() as u64 == wanted => Ok(bytes),
            Err(error @ object_store::Error::NotFound { .. }) => Err(StoreError::of(name, error)),
            // Every kind of store has an error of its own for a range past the end.
            Err(error) if self.size(name).await? >= end => Err(error.into()),
            _ => Err(StoreError::damaged(name, "it is cut short")),
        }
    }

    /// Size of an object, if it is there.
    pub(crate) async fn size(&self, name: &Name) -> Result<u64, StoreError> {
        let found = self.store.head(name.path()).await.map_err(|error| StoreError::of(name, error))?;
        Ok(found.size)
    }

    /// Seals an object and writes it, unless there is one of the name. It is durable when this returns.
    pub(crate) async fn put(
        &self,
        kind: ObjectKind,
        name: &Name,
        payload: &[u8],
    ) -> Result<Written, StoreError> {
        self.write(name, seal(kind, name, payload)).await
    }

    /// Writes an object as it is, unless there is one of the name. It is durable when this returns.
    pub(crate) async fn write(&self, name: &Name, object: Bytes) -> Result<Written, StoreError> {
        let bytes = object.len() as u64;
        match self.store.put_opts(name.path(), object.into(), PutOptions::from(PutMode::Create)).await {
            Ok(_) => Ok(Written::Durably { bytes }),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Written::Kept),
            Err(error) => Err(error.into()),
        }
    }

    /// Seals an object and writes it in the place of a damaged one that held the same.
    pub(crate) async fn mend(&self, kind: ObjectKind, name: &Name, payload: &[u8]) -> Result<(), StoreError> {
        self.store.put(name.path(), seal(kind, name, payload).into()).await?;
        Ok(())
    }

    /// Removes an object, durably, if it is there.
    pub(crate) async fn delete(&self, name: &Name) -> Result<(), StoreError> {
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
    pub(crate) async fn remove_left(&self, grace: Duration) -> Result<(u64, u64), StoreError> {
        match self.folder.clone() {
            Some(folder) => in_folder(move || staging::remove_left(&folder, grace)).await,
            None => Ok((0, 0)),
        }
    }

    /// All generations of an object that are there, oldest first.
    pub(crate) async fn generations(&self, family: &Family) -> Result<Vec<Name>, StoreError> {
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
            let name = Name::at(object.location.clone());
            match location.starts_with(whole) {
                true if name.family().0 == *family => found.push(name),
                true => {}
                false if in_order && location > whole => break,
                false => {}
            }
        }
        found.sort_by_key(|name| name.family().1);
        Ok(found)
    }

    /// What lies below a folder and, by name, after `offset`, in no order.
    pub(crate) fn list(
        &self,
        folder: &Path,
        offset: &Path,
    ) -> impl Stream<Item = Result<ObjectMeta, StoreError>> + Send + 'static {
        self.store.list_with_offset(Some(folder), offset).map_err(StoreError::from)
    }
}

/// `object_store` flushes the folder after a write, but not after a delete.
#[cfg(unix)]
async fn sync_parent(path: PathBuf) -> Result<(), StoreError> {
    let sync = move || {
        let parent = path.parent().expect("an object lies in a folder");
        std::fs::File::open(parent)?.sync_all()
    };
    in_folder(sync).await
}

#[cfg(not(unix))]
async fn sync_parent(_: PathBuf) -> Result<(), StoreError> {
    Ok(())
}

/// What errors of our own work in a folder are marked with.
pub(super) const FOLDER: &str = "folder";

/// Does work in a folder where it may block.
async fn in_folder<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::from).flatten();
    done.map_err(|source| object_store::Error::Generic { store: FOLDER, source: source.into() }.into())
}

#[cfg(test)]
mod tests {
    use c3_proto::DocumentId;

    use super::*;
    use crate::store::layout;
    use crate::store::stamp::Stamp;

    #[tokio::test]
    async fn objects_are_kept_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open(&folder.path().to_str().unwrap().into()).await.unwrap();
        let (kind, id) = (ObjectKind::Manifest, DocumentId::of(b"a"));
        let name = layout::manifest(id, Stamp::NONE);
        assert!(matches!(objects.get(kind, &name).await, Err(StoreError::Missing { .. })));
        objects.delete(&name).await.unwrap();

        let first = objects.put(kind, &name, b"first").await.unwrap();
        assert_eq!(first, Written::Durably { bytes: 42 + 5 });
        assert_eq!(objects.put(kind, &name, b"second").await.unwrap(), Written::Kept);
        assert_eq!(objects.get(kind, &name).await.unwrap().0, "first");
        assert_eq!(objects.read_range(&name, 42..44).await.unwrap(), "fi");
        for past in [40..48, 50..60] {
            let read = objects.read_range(&name, past).await;
            assert!(matches!(read, Err(StoreError::Damaged { .. })), "{read:?}");
        }

        let newer = layout::manifest(id, Stamp::after(Stamp::NONE));
        objects.put(kind, &newer, b"newer").await.unwrap();
        objects.put(kind, &layout::manifest(DocumentId::of(b"b"), Stamp::NONE), b"other").await.unwrap();
        let all = objects.generations(&layout::of_document(layout::DOCUMENTS, id)).await.unwrap();
        assert_eq!(all, [name.clone(), newer]);
        objects.delete(&name).await.unwrap();
        assert!(matches!(objects.get(kind, &name).await, Err(StoreError::Missing { .. })));
    }
}
