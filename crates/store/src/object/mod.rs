//! Checksummed objects in a local folder or in a cloud, through `object_store`. Only `Objects::restore` overwrites an
//! object.
//!
//! - `layout`: tells the store's keys from the entries of other programs. `walk`: lists the store's files in a local
//!   folder.
//! - `realm`: plain and encrypted objects. `sealed_path`: paths of encrypted objects. All code above this module knows
//!   only keys.
//! - `identity`: notices that a local folder was unmounted or replaced. `reserve`: space for deletes on a full disk.

pub(crate) mod backend;
pub(crate) mod envelope;
mod folder;
mod idempotent_write;
mod identity;
pub mod key;
pub(crate) mod layout;
mod listing;
mod realm;
mod reserve;
mod sealed_path;
mod upkeep;
pub mod version;
mod walk;

use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::encryption::KeyError;
use crate::encryption::data_key::number_of;
use crate::encryption::master::MasterKeys;
use crate::encryption::ring::{KeyRing, Ring};
use crate::object::backend::{Backend, BackendSettings};
use crate::object::envelope::{seal, unseal};
use crate::object::folder::Folder;
use crate::object::key::{FOLDERS, ObjectKey};
use crate::object::layout::PathKind;
pub(crate) use crate::object::realm::Realm;
use crate::object::version::Version;
use crate::{Error, OpenError};

/// Maximum concurrent backend requests of one operation.
pub(crate) const CONCURRENT_REQUESTS: usize = 16;
/// Maximum age of the list of a tenant's keys when an operation begins.
const RING_AGE_MAX: Duration = Duration::from_secs(60);

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
    fn with(mut self, object: &ObjectMeta, ring: &Ring) -> Self {
        match ring.locate(&object.location).0 {
            PathKind::Object => self.objects.add(object.size),
            PathKind::Foreign => self.foreign += 1,
            PathKind::Folder | PathKind::Meta => {}
        }
        self
    }
}

/// A store of checksummed objects, which are encrypted if there is a master key.
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    /// The local folder; `None` for a cloud. Clouds list objects in key order; a local folder lists them in no
    /// particular order.
    folder: Option<Arc<Folder>>,
    keys: KeyRing,
    /// Number of foreign entries at the last survey. A warning is logged only if it has changed.
    foreign_warned: AtomicU64,
}

impl Objects {
    /// Opens the backend. Fails if it is not writable, unless the only reason is that it is full. Fails if the store is
    /// encrypted and its keys cannot be loaded, unless they were destroyed.
    pub(crate) async fn open(settings: &BackendSettings) -> Result<Self, OpenError> {
        let Backend { store, folder } = Backend::open(settings).await?;
        let refused = |reason: String| OpenError::Encrypted { folder: settings.data.clone(), reason };
        let masters = MasterKeys::open(&settings.master_keys, &settings.cloud.0, settings.timeout);
        let masters = masters.map_err(|error| OpenError::MasterKey(error.to_string()))?;
        let objects = Self::new(store, folder, masters);
        match objects.keys.load(RING_AGE_MAX).await {
            // The stores of other tenants have keys of their own.
            Err(error @ KeyError::Destroyed) => {
                tracing::warn!(%error, "the store of the tenant default cannot be used");
                return Ok(objects);
            }
            loaded => loaded.map_err(|error| refused(error.to_string()))?,
        };
        objects.check_writable().await.map_err(|reason| OpenError::Data { folder: settings.data.clone(), reason })?;
        Ok(objects)
    }

    fn new(store: Arc<dyn ObjectStore>, folder: Option<Folder>, masters: MasterKeys) -> Self {
        let keys = KeyRing::new(Arc::clone(&store), &Path::ROOT, masters, &FOLDERS);
        Self { store, folder: folder.map(Arc::new), keys, foreign_warned: AtomicU64::new(0) }
    }

    /// Returns objects in memory.
    #[cfg(test)]
    pub(crate) fn in_memory(store: Arc<object_store::memory::InMemory>, masters: MasterKeys) -> Self {
        Self::new(store, None, masters)
    }

    /// Writes an empty pending-delete list and deletes it again. If the gateway is killed in between, a later sweep of
    /// garbage collection deletes the list. Accepts a full store with a warning.
    async fn check_writable(&self) -> Result<(), String> {
        let key = key::pending_deletes(Version::after(Version::NONE));
        let checked = match self.put(&key, b"", Space::Reserve).await {
            Ok(_) => self.delete(&key).await,
            Err(error) => Err(error),
        };
        match checked {
            Err(error) if error.is_full() => {
                tracing::warn!(%error, "the store is full");
                Ok(())
            }
            Err(error) => Err(error.root_cause()),
            Ok(()) => Ok(()),
        }
    }

    /// Returns the objects below a path. They share the backend, the identity of a local folder and the master keys
    /// with these, but have keys of their own.
    pub(crate) fn below(&self, path: Path) -> Self {
        let folder = self.folder.as_ref().map(|folder| folder.below(&path));
        let store: Arc<dyn ObjectStore> = match path.is_root() {
            true => Arc::clone(&self.store),
            false => Arc::new(PrefixStore::new(Arc::clone(&self.store), path.clone())),
        };
        let keys = match path.is_root() {
            true => self.keys.clone(),
            false => KeyRing::new(Arc::clone(&store), &path, self.keys.masters().clone(), &FOLDERS),
        };
        Self { store, folder: folder.map(Arc::new), keys, foreign_warned: AtomicU64::new(0) }
    }

    /// Returns the backend, whose paths are not keys.
    pub(crate) fn backend(&self) -> &dyn ObjectStore {
        self.store.as_ref()
    }

    /// Returns the key ring.
    pub(crate) fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// Returns the keys of the store. Loads them if they were not loaded lately.
    pub(crate) async fn ring(&self) -> Result<Arc<Ring>, Error> {
        if let Some(ring) = self.keys.fresh() {
            return Ok(ring);
        }
        // If the store has vanished, no keys are created in its place.
        self.in_folder(Folder::check).await?;
        Ok(self.keys.load(RING_AGE_MAX).await?)
    }

    /// Returns the keys of the store as if it might have plain objects.
    pub(crate) async fn ring_with_plain(&self) -> Result<Arc<Ring>, Error> {
        Ok(Arc::new(self.ring().await?.with_plain()))
    }

    /// Returns keys that include the one with which these bytes of an object are encrypted, if they are.
    pub(crate) async fn ring_for(&self, object: &[u8]) -> Result<Arc<Ring>, Error> {
        let ring = self.ring().await?;
        match (&ring.sealed, number_of(object)) {
            (Some(sealed), Some(number)) if !sealed.has(number) => Ok(self.keys.load_key(number).await?),
            _ => Ok(ring),
        }
    }

    /// Returns the names of the folders in a folder that contain objects or, in a local folder, anything at all.
    pub(crate) async fn subfolder_names(&self, folder: &str) -> Result<Vec<String>, Error> {
        let listed = self.store.list_with_delimiter(Some(&Path::from(folder))).await?;
        self.in_folder(Folder::check).await?;
        let names = listed.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned));
        Ok(names.collect())
    }

    /// Returns the root of the local folder; `None` for a cloud.
    pub(crate) fn folder(&self) -> Option<&FsPath> {
        self.folder.as_deref().map(Folder::root)
    }

    /// Reads an object and checks its envelope. Returns the payload, and the size of the whole object in bytes.
    pub(crate) async fn get(&self, key: &ObjectKey) -> Result<(Bytes, u64), Error> {
        let object = self.read(key).await?;
        let bytes = object.len() as u64;
        let envelope = self.decrypt(key, object).await?;
        let payload = unseal(key, envelope).map_err(|problem| Error::damaged(key, problem))?;
        Ok((payload, bytes))
    }

    /// Reads an object as it is stored, without checking it.
    pub(crate) async fn read(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        let read = self.find(key, |store, path| async move {
            let found = store.get(&path).await?;
            // The size is known before anything is allocated for the content.
            if found.meta.size > OBJECT_BYTES_MAX {
                return Ok(None);
            }
            found.bytes().await.map(Some)
        });
        read.await?.ok_or_else(|| Error::damaged(key, format!("it has more than {OBJECT_BYTES_MAX} bytes")))
    }

    /// Decrypts an object, or a part of a pack, to its envelope. `holder` is the object that contains it.
    pub(crate) async fn decrypt(&self, holder: &ObjectKey, object: Bytes) -> Result<Bytes, Error> {
        let ring = self.ring_for(&object).await?;
        ring.open(object).map_err(|problem| Error::damaged(holder, problem))
    }

    /// Reads a byte range of an object as it is stored, without checking it. Returns [`Error::Damaged`] if the object
    /// is shorter.
    pub(crate) async fn read_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, Error> {
        let Range { start, end } = range;
        let read = self.find(key, |store, path| async move {
            match store.get_range(&path, start..end).await {
                Err(error @ object_store::Error::NotFound { .. }) => Err(error),
                read => Ok(read),
            }
        });
        match read.await? {
            Ok(bytes) if bytes.len() as u64 == end - start => Ok(bytes),
            // Backends return different errors for a range past the end, so the size of the object decides.
            Err(error) if self.size(key).await? >= end => Err(error.into()),
            _ => Err(Error::damaged(key, "it is cut short")),
        }
    }

    /// Returns the size of an object in bytes, as it is stored.
    pub(crate) async fn size(&self, key: &ObjectKey) -> Result<u64, Error> {
        self.find(key, |store, path| async move { Ok(store.head(&path).await?.size) }).await
    }

    /// Returns whether an object exists.
    pub(crate) async fn exists(&self, key: &ObjectKey) -> Result<bool, Error> {
        match self.size(key).await {
            Ok(_) => Ok(true),
            Err(Error::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Runs a request on an object, wherever it is. An object counts as missing only if the store itself is still
    /// there.
    async fn find<T, F: Future<Output = object_store::Result<T>>>(
        &self,
        key: &ObjectKey,
        request: impl Fn(Arc<dyn ObjectStore>, Path) -> F,
    ) -> Result<T, Error> {
        let ring = self.ring().await?;
        let mut realms = Vec::from_iter(ring.realms().rev());
        if ring.is_mixed() {
            // The object may move to the sealed realm after it was looked for there.
            realms.push(Realm::Sealed);
        }
        let mut missing = Error::Missing { object: key.to_string() };
        for realm in realms {
            let found = request(Arc::clone(&self.store), ring.path(realm, key.path())).await;
            match found.map_err(|error| Error::from_backend(key, error)) {
                Err(error @ Error::Missing { .. }) => missing = error,
                found => return found,
            }
        }
        Err(self.in_folder(Folder::check).await.err().unwrap_or(missing))
    }

    /// Creates an object with this payload, unless the key exists. A created object is durable on return.
    pub(crate) async fn put(&self, key: &ObjectKey, payload: &[u8], space: Space) -> Result<PutOutcome, Error> {
        self.write(key, seal(key, payload), space).await
    }

    /// Creates an object with this envelope, unless the key exists. A created object is durable on return.
    pub(crate) async fn write(&self, key: &ObjectKey, envelope: Bytes, space: Space) -> Result<PutOutcome, Error> {
        let object = self.ring().await?.seal(envelope);
        self.write_stored(key, object, space).await
    }

    /// Creates an object from the bytes to store, unless the key exists. A created object is durable on return.
    pub(crate) async fn write_stored(&self, key: &ObjectKey, object: Bytes, space: Space) -> Result<PutOutcome, Error> {
        self.in_folder(move |folder| {
            folder.check()?;
            match space {
                Space::Free => folder.check_space(),
                Space::Reserve => Ok(()),
            }
        })
        .await?;
        let ring = self.ring().await?;
        // No object is created in the plain realm of an encrypted store, so this cannot change until the write.
        if ring.is_mixed() && self.is_in(&ring, Realm::Plain, key).await? {
            return Ok(PutOutcome::AlreadyExists);
        }
        let path = ring.path(ring.target(), key.path());
        let mut created = self.create(&path, object.clone()).await;
        while space == Space::Reserve
            && created.as_ref().is_err_and(Error::is_full)
            && self.in_folder(Folder::release_reserve).await?
        {
            created = self.create(&path, object.clone()).await;
        }
        // The folder may have vanished before the write, which then created another one in its place.
        self.in_folder(Folder::check).await?;
        created
    }

    async fn create(&self, path: &Path, object: Bytes) -> Result<PutOutcome, Error> {
        let bytes = object.len() as u64;
        match self.store.put_opts(path, object.into(), PutOptions::from(PutMode::Create)).await {
            Ok(_) => Ok(PutOutcome::Created { bytes }),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(PutOutcome::AlreadyExists),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether an object is in a realm.
    async fn is_in(&self, ring: &Ring, realm: Realm, key: &ObjectKey) -> Result<bool, Error> {
        match self.store.head(&ring.path(realm, key.path())).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes an object durably. Succeeds if the object does not exist.
    pub(crate) async fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        let ring = self.ring().await?;
        // From the plain realm first: an object that moves meanwhile is then in the sealed realm.
        for realm in ring.realms() {
            self.delete_in(&ring, realm, key).await?;
        }
        Ok(())
    }

    /// Deletes the copy of an object in a realm durably. Succeeds if it does not exist.
    pub(crate) async fn delete_in(&self, ring: &Ring, realm: Realm, key: &ObjectKey) -> Result<(), Error> {
        let path = ring.path(realm, key.path());
        match self.store.delete(&path).await {
            Ok(()) => {}
            Err(object_store::Error::NotFound { .. }) => return self.in_folder(Folder::check).await,
            Err(error) => return Err(error.into()),
        }
        match &self.folder {
            Some(folder) => sync_parent(folder.root().join(path.as_ref())).await,
            None => Ok(()),
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
mod tests;
