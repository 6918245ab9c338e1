//! Checksummed objects in a local folder or in a cloud, through `object_store`. Only `Objects::restore` overwrites an
//! object.
//!
//! - `layout`: tells the store's keys from the entries of other programs. `walk`: lists the store's files in a local
//!   folder.
//! - `identity`: notices that a local folder was unmounted or replaced. `reserve`: space for deletes on a full disk.

pub(crate) mod backend;
pub(crate) mod envelope;
mod folder;
mod idempotent_write;
mod identity;
pub mod key;
mod layout;
mod listing;
mod reserve;
pub mod version;
mod walk;

use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt, future, pin_mut};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::availability::Unavailable;
use crate::object::backend::{Backend, BackendSettings};
use crate::object::envelope::{seal, unseal};
use crate::object::folder::Folder;
use crate::object::key::{KeyPrefix, ObjectKey};
use crate::object::layout::{PathKind, kind_of};
use crate::object::walk::Entry;
use crate::{Error, OpenError};

/// Maximum concurrent backend requests of one operation.
pub(crate) const CONCURRENT_REQUESTS: usize = 16;
/// Number of objects that are listed from a local folder at once.
const LISTED_AT_ONCE: usize = 1024;

/// Maximum size of an object. The manifest of a text of 20 GB has about as many bytes.
const OBJECT_BYTES_MAX: u64 = 1 << 30;

/// Space that a write may use in a local folder. A part of the disk, the *reserve*, is set aside for deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// All space except the reserve. The write fails while the disk has no space for a full reserve.
    Free,
    /// All space, including the reserve. For writes that let space be freed, such as the tombstone of a deleted
    /// document.
    Reserve,
}

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

/// A number of objects and their total size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Number of objects.
    pub objects: u64,
    /// Size of the objects in bytes.
    pub bytes: u64,
}

impl Size {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// Result of a listing of the whole store: the size of its objects, and the number of foreign entries, which are not
/// the store's.
#[derive(Clone, Copy, Default)]
pub(crate) struct Survey {
    pub(crate) objects: Size,
    pub(crate) foreign: u64,
}

impl Survey {
    /// Adds an entry that was listed in a cloud.
    fn with(mut self, object: &ObjectMeta) -> Self {
        match kind_of(&object.location) {
            PathKind::Object => self.objects.add(object.size),
            PathKind::Foreign => self.foreign += 1,
            PathKind::Folder | PathKind::Meta => {}
        }
        self
    }
}

/// A store of checksummed objects.
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    /// The local folder; `None` for a cloud. Clouds list objects in key order; a local folder lists them in no
    /// particular order.
    folder: Option<Arc<Folder>>,
    /// Number of foreign entries at the last survey. A warning is logged only if it has changed.
    foreign_warned: AtomicU64,
}

impl Objects {
    /// Opens the backend. Fails if it is not writable, unless the only reason is that it is full.
    pub(crate) async fn open(settings: &BackendSettings) -> Result<Self, OpenError> {
        let Backend { store, folder } = Backend::open(settings).await?;
        Ok(Self { store, folder: folder.map(Arc::new), foreign_warned: AtomicU64::new(0) })
    }

    /// Returns the root of the local folder; `None` for a cloud.
    pub(crate) fn folder(&self) -> Option<&FsPath> {
        self.folder.as_deref().map(Folder::root)
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
        let read = async {
            let found = self.store.get(key.path()).await?;
            // The size is known before anything is allocated for the content.
            if found.meta.size > OBJECT_BYTES_MAX {
                return Ok(None);
            }
            found.bytes().await.map(Some)
        };
        match read.await {
            Ok(Some(object)) => Ok(object),
            Ok(None) => Err(Error::damaged(key, format!("it has more than {OBJECT_BYTES_MAX} bytes"))),
            Err(error) => Err(self.failed(key, error).await),
        }
    }

    /// Reads a byte range of an object, without checking it. Returns [`Error::Damaged`] if the object is shorter.
    pub(crate) async fn read_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, Error> {
        let Range { start, end } = range;
        match self.store.get_range(key.path(), start..end).await {
            Ok(bytes) if bytes.len() as u64 == end - start => Ok(bytes),
            Err(error @ object_store::Error::NotFound { .. }) => Err(self.failed(key, error).await),
            // Backends return different errors for a range past the end, so the size of the object decides.
            Err(error) if self.size(key).await? >= end => Err(error.into()),
            _ => Err(Error::damaged(key, "it is cut short")),
        }
    }

    /// Returns the size of an object in bytes, including the envelope.
    pub(crate) async fn size(&self, key: &ObjectKey) -> Result<u64, Error> {
        match self.store.head(key.path()).await {
            Ok(metadata) => Ok(metadata.size),
            Err(error) => Err(self.failed(key, error).await),
        }
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
    pub(crate) async fn put(&self, key: &ObjectKey, payload: &[u8], space: Space) -> Result<PutOutcome, Error> {
        self.write(key, seal(key, payload), space).await
    }

    /// Creates an object that is already sealed, unless the key exists. A created object is durable on return.
    pub(crate) async fn write(&self, key: &ObjectKey, object: Bytes, space: Space) -> Result<PutOutcome, Error> {
        self.in_folder(move |folder| {
            folder.check()?;
            match space {
                Space::Free => folder.check_space(),
                Space::Reserve => Ok(()),
            }
        })
        .await?;
        let mut created = self.create(key, object.clone()).await;
        while space == Space::Reserve
            && created.as_ref().is_err_and(Error::is_full)
            && self.in_folder(Folder::release_reserve).await?
        {
            created = self.create(key, object.clone()).await;
        }
        // The folder may have vanished before the write, which then created another one in its place.
        self.in_folder(Folder::check).await?;
        created
    }

    async fn create(&self, key: &ObjectKey, object: Bytes) -> Result<PutOutcome, Error> {
        let bytes = object.len() as u64;
        match self.store.put_opts(key.path(), object.into(), PutOptions::from(PutMode::Create)).await {
            Ok(_) => Ok(PutOutcome::Created { bytes }),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(PutOutcome::AlreadyExists),
            Err(error) => Err(error.into()),
        }
    }

    /// Overwrites a damaged object. `payload` must be the one with which the object was created.
    pub(crate) async fn restore(&self, key: &ObjectKey, payload: &[u8]) -> Result<(), Error> {
        self.in_folder(Folder::check).await?;
        self.store.put(key.path(), seal(key, payload).into()).await?;
        Ok(())
    }

    /// Deletes an object durably. Succeeds if the object does not exist.
    pub(crate) async fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        match self.store.delete(key.path()).await {
            Ok(()) => {}
            Err(object_store::Error::NotFound { .. }) => return self.in_folder(Folder::check).await,
            Err(error) => return Err(error.into()),
        }
        match &self.folder {
            Some(folder) => sync_parent(folder.root().join(key.path().as_ref())).await,
            None => Ok(()),
        }
    }

    /// Fills the reserve of a local folder again if there is enough space.
    pub(crate) async fn refill_reserve(&self) -> Result<(), Error> {
        self.in_folder(|folder| folder.check().map(|()| folder.try_fill_reserve())).await
    }

    /// Removes old temporary files, which killed gateways leave in a local folder. Returns their number and bytes.
    pub(crate) async fn remove_stale(&self, grace: Duration) -> Result<(u64, u64), Error> {
        self.in_folder(move |folder| {
            folder.check()?;
            folder.remove_stale(grace).map_err(Error::from_io)
        })
        .await
    }

    /// Measures all objects, and counts the foreign entries. Logs a warning if their number has changed since the last
    /// call and is not zero. Lists the whole store.
    pub(crate) async fn survey(&self) -> Result<Survey, Error> {
        let survey = match &self.folder {
            Some(_) => {
                let survey = |folder: &Folder| {
                    let survey = folder.survey().map_err(Error::from_io)?;
                    folder.check().map(|()| survey)
                };
                self.in_folder(survey).await?
            }
            None => {
                let add = async |survey: Survey, object: ObjectMeta| Ok(survey.with(&object));
                self.store.list(None).map_err(Error::from).try_fold(Survey::default(), add).await?
            }
        };
        let count = survey.foreign;
        if self.foreign_warned.swap(count, Ordering::Relaxed) != count && count > 0 {
            tracing::warn!(count, "skipped entries that are not the store's: give the store a folder of its own");
        }
        Ok(survey)
    }

    /// Returns the keys of all existing versions with this prefix, lowest version first.
    pub(crate) async fn versions(&self, prefix: &KeyPrefix) -> Result<Vec<ObjectKey>, Error> {
        let found = self.local_versions(prefix).await;
        if !found.is_empty() {
            self.in_folder(Folder::check).await?;
            return Ok(found);
        }
        let (whole, is_sorted) = (prefix.path().as_ref(), self.folder.is_none());
        let path = |part: &str| Path::parse(part).map_err(object_store::Error::from);
        let folder = path(whole.rsplit_once('/').map_or("", |(folder, _)| folder))?;
        // A listing excludes the offset itself, so the offset is the prefix without its last character. If that leaves
        // a lone dot, which is no valid path, the whole folder is listed.
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

    /// Lists the objects in a folder and its subfolders whose keys follow `offset`, in no guaranteed order. Skips
    /// foreign entries.
    pub(crate) fn list(&self, folder: &Path, offset: &Path) -> BoxStream<'static, Result<ObjectMeta, Error>> {
        match &self.folder {
            Some(local) => list_folder(Arc::clone(local), folder, offset).boxed(),
            None => {
                let all = self.store.list_with_offset(Some(folder), offset).map_err(|error| match error {
                    // An empty folder of a bucket is no error, so the bucket itself does not exist.
                    object_store::Error::NotFound { .. } => {
                        Error::unavailable(Unavailable::Vanished, error.to_string())
                    }
                    error => error.into(),
                });
                all.try_filter(|object| future::ready(kind_of(&object.location) == PathKind::Object)).boxed()
            }
        }
    }

    /// Returns the error of a request for one object. An object counts as missing only if the store itself is still
    /// there.
    async fn failed(&self, key: &ObjectKey, error: object_store::Error) -> Error {
        match Error::from_backend(key, error) {
            missing @ Error::Missing { .. } => self.in_folder(Folder::check).await.err().unwrap_or(missing),
            error => error,
        }
    }

    /// Runs blocking work on the local folder. Returns the default value for a cloud.
    async fn in_folder<T: Default + Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        match self.folder.clone() {
            Some(folder) => blocking(move || work(&folder)).await,
            None => Ok(T::default()),
        }
    }
}

/// Lists the objects in a local folder, many at a time.
fn list_folder(
    local: Arc<Folder>,
    folder: &Path,
    offset: &Path,
) -> impl Stream<Item = Result<ObjectMeta, Error>> + Send + use<> {
    let walk = local.walk(folder, offset);
    let chunks = stream::try_unfold(Some(walk), move |walk| {
        let local = Arc::clone(&local);
        async move {
            let Some(mut walk) = walk else { return Ok(None) };
            let next = move || {
                let objects = walk.by_ref().filter_map(|entry| match entry {
                    Ok(Entry::Object(object)) => Some(Ok(object)),
                    Ok(Entry::Temporary(_) | Entry::Foreign) => None,
                    Err(error) => Some(Err(Error::from_io(error))),
                });
                let objects = objects.take(LISTED_AT_ONCE).collect::<Result<Vec<_>, Error>>()?;
                let is_last = objects.len() < LISTED_AT_ONCE;
                if is_last {
                    // If the store has vanished, its objects are not missing: the listing fails instead.
                    local.check()?;
                }
                Ok::<_, Error>((objects, (!is_last).then_some(walk)))
            };
            let (objects, rest) = blocking(next).await?;
            Ok::<_, Error>(Some((stream::iter(objects.into_iter().map(Ok)), rest)))
        }
    });
    chunks.try_flatten()
}

/// Flushes the folder of a deleted file to disk. `object_store` flushes folders only after writes.
#[cfg(unix)]
async fn sync_parent(path: PathBuf) -> Result<(), Error> {
    let sync = move || {
        let parent = path.parent().expect("every object is in a folder");
        std::fs::File::open(parent).and_then(|folder| folder.sync_all()).map_err(Error::from_io)
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
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::from_io(error.into())).flatten()
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

        let first = objects.put(&key, b"first", Space::Free).await.unwrap();
        assert_eq!(first, PutOutcome::Created { bytes: 42 + 5 });
        assert_eq!(objects.put(&key, b"second", Space::Free).await.unwrap(), PutOutcome::AlreadyExists);
        assert_eq!(objects.get(&key).await.unwrap().0, "first");
        assert_eq!(objects.read_range(&key, 42..44).await.unwrap(), "fi");
        for past in [40..48, 50..60] {
            let read = objects.read_range(&key, past).await;
            assert!(matches!(read, Err(Error::Damaged { .. })), "{read:?}");
        }

        let newer = key::manifest(id, Version::after(Version::NONE));
        objects.put(&newer, b"newer", Space::Free).await.unwrap();
        let other = key::manifest(DocumentId::of(b"b"), Version::NONE);
        objects.put(&other, b"other", Space::Free).await.unwrap();
        let all = objects.versions(&key::document_prefix(key::DOCUMENTS, id)).await.unwrap();
        assert_eq!(all, [key.clone(), newer]);
        objects.delete(&key).await.unwrap();
        assert!(matches!(objects.get(&key).await, Err(Error::Missing { .. })));
    }

    #[tokio::test]
    async fn an_absurdly_large_object_is_refused_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open(&folder.path().to_str().unwrap().into()).await.unwrap();
        let key = key::manifest(DocumentId::of(b"a"), Version::NONE);
        objects.put(&key, b"first", Space::Free).await.unwrap();
        let path = folder.path().join(key.to_string());
        // A sparse file, which takes no space.
        std::fs::File::options().write(true).open(path).unwrap().set_len(OBJECT_BYTES_MAX + 1).unwrap();
        assert!(objects.get(&key).await.unwrap_err().to_string().contains("more than"));
    }

    #[tokio::test]
    async fn foreign_keys_of_a_bucket_are_skipped_and_counted() {
        let store = Arc::new(object_store::memory::InMemory::new());
        let objects = Objects { store: store.clone(), folder: None, foreign_warned: AtomicU64::new(0) };
        let key = key::manifest(DocumentId::of(b"a"), Version::NONE);
        objects.put(&key, b"", Space::Free).await.unwrap();
        for foreign in ["mine", "documents/mine", "latents/ab/mine", "meta/identity"] {
            store.put(&Path::from(foreign), Bytes::new().into()).await.unwrap();
        }
        let listed: Vec<_> = objects.list(&Path::ROOT, &Path::ROOT).try_collect().await.unwrap();
        assert_eq!(listed.into_iter().map(|object| object.location).collect::<Vec<_>>(), [key.path().clone()]);
        assert_eq!(objects.survey().await.unwrap().foreign, 3);
    }
}
