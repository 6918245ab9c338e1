//! Encryption of a store in place, rotation of its keys, and their destruction. Gateways may use the store meanwhile.
//!
//! Objects move one by one, each to a new object that is durable before the old one is deleted. A run that is killed
//! loses nothing, and the next run continues with the objects that are left.
//!
//! A move must not undo a delete. A gateway deletes the plain copy of an object before the encrypted one, and a move
//! that finds its plain copy deleted deletes the encrypted copy too. That is safe only if nobody else moves objects, so
//! a lock on a local folder lets one run at a time encrypt. A run on a cloud has no such lock: it leaves an object that
//! was deleted during its move. Garbage collection removes it later, like any other unreferenced object.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io;
use std::time::{Duration, SystemTime};

use async_stream::try_stream;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, UpdateVersion};

use crate::encryption::KeyError;
use crate::encryption::data_key::number_of;
use crate::encryption::ring::{COMPLETE, DESTROYED, NAMES, SEALED};
use crate::object::envelope::unseal;
use crate::object::key::{FOLDERS, ObjectKey, PACKS};
use crate::object::layout::META;
use crate::object::{CONCURRENT_REQUESTS, Realm, Space};
use crate::pack::format;
use crate::{Error, Size, Store};

/// Age at which a data key has replaced the former ones in all gateways: they list the keys at least once a minute.
const KEY_SETTLED: Duration = Duration::from_secs(600);
/// Number of objects after which progress is reported.
const REPORTED_OBJECTS: u64 = 1000;

/// Objects to encrypt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncryptMode {
    /// Plain objects.
    Plain,
    /// Plain objects, and objects that are encrypted with a former data key.
    Outdated,
}

/// Progress of an encryption in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncryptProgress {
    /// Objects that were encrypted, and their size before.
    pub encrypted: Size,
    /// Objects that could not be encrypted, because they are damaged. `c3 fsck --repair` repairs or removes them.
    pub damaged: Vec<String>,
    /// Former data keys that were deleted, since no object needs them any more.
    pub retired: Vec<u32>,
    /// True if all objects were visited.
    pub is_done: bool,
}

/// Keys of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// Numbers of the data keys; the highest one encrypts new objects. Empty for a store without encryption.
    pub data_keys: Vec<u32>,
    /// Ids of the master keys that wrap the keys.
    pub master_keys: BTreeSet<String>,
    /// Objects that are not encrypted.
    pub plain: Size,
}

/// Result of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Number of the new data key.
    pub data_key: u32,
    /// Number of keys that another master key had wrapped, and that the first one wraps now.
    pub rewrapped: u64,
}

/// Outcome of the move of one object.
enum Moved {
    Encrypted(u64),
    Damaged(String),
    /// The object was deleted, or is not to be moved.
    Skipped,
}

impl Store {
    /// Encrypts the store in place. Yields the progress from time to time, and at the end. Fails if there is no master
    /// key, or if another run encrypts the same local folder.
    pub fn encrypt(&self, mode: EncryptMode) -> impl Stream<Item = Result<EncryptProgress, Error>> + Send + '_ {
        try_stream! {
            let number = self.current_data_key().await?;
            let _lock = self.lock_encryption()?;
            let mut progress = EncryptProgress::default();
            for realm in [Realm::Plain, Realm::Sealed] {
                if realm == Realm::Sealed && mode == EncryptMode::Plain {
                    break;
                }
                for folder in FOLDERS {
                    let keys = self.realm_keys(realm, folder).await?;
                    let moves = stream::iter(keys).map(|key| self.encrypt_object(realm, key, number));
                    let mut moves = moves.buffer_unordered(CONCURRENT_REQUESTS);
                    while let Some(moved) = moves.next().await {
                        match moved? {
                            Moved::Encrypted(bytes) => {
                                progress.encrypted.add(bytes);
                                if progress.encrypted.objects.is_multiple_of(REPORTED_OBJECTS) {
                                    yield progress.clone();
                                }
                            }
                            Moved::Damaged(object) => progress.damaged.push(object),
                            Moved::Skipped => {}
                        }
                    }
                }
            }
            if self.plain_size().await?.objects == 0 {
                for folder in FOLDERS {
                    self.objects.remove_empty(folder).await?;
                }
                self.objects.keys().mark(COMPLETE).await?;
            }
            if mode == EncryptMode::Outdated && progress.damaged.is_empty() {
                progress.retired = self.retire_keys(number).await?;
            }
            progress.is_done = true;
            yield progress;
        }
    }

    /// Returns the keys of the store, and the number and size of the objects that are not encrypted.
    pub async fn key_status(&self) -> Result<KeyStatus, Error> {
        let ring = self.objects.ring().await?;
        let data_keys = Vec::from_iter(ring.sealed.iter().flat_map(|sealed| sealed.numbers()));
        let mut master_keys = BTreeSet::new();
        for name in self.key_names().await? {
            master_keys.insert(self.objects.keys().read(&name).await?.1);
        }
        Ok(KeyStatus { data_keys, master_keys, plain: self.plain_size().await? })
    }

    /// Returns whether the keys were destroyed. Reads the store.
    pub async fn is_destroyed(&self) -> Result<bool, Error> {
        Ok(self.objects.keys().listed().await?.contains(DESTROYED))
    }

    /// Wraps all keys with the first master key, and adds a data key. Gateways use the new key after 15 seconds at
    /// most. All gateways must have both master keys before: with the former one alone, they cannot open the new data
    /// key.
    pub async fn rotate_keys(&self) -> Result<Rotation, Error> {
        self.objects.ring().await?;
        let keys = self.objects.keys();
        let first = keys.masters().first().ok_or(KeyError::NoMasterKey)?.id().to_owned();
        let mut rewrapped = 0;
        for name in self.key_names().await? {
            let (secret, master) = keys.read(&name).await?;
            if master != first {
                keys.rewrap(&name, &secret).await?;
                rewrapped += 1;
            }
        }
        Ok(Rotation { data_key: keys.add().await?, rewrapped })
    }

    /// Destroys the keys of the store, and then deletes all its objects. Returns the deleted objects. Succeeds if the
    /// keys were destroyed before, so that an interrupted call can be repeated.
    pub async fn shred(&self) -> Result<Size, Error> {
        let keys = self.objects.keys();
        // The mark comes first: without it, gateways take missing keys for an accident.
        keys.mark(DESTROYED).await?;
        for name in self.key_names().await? {
            keys.remove(&name).await?;
        }
        let mut deleted = Size::default();
        for folder in FOLDERS.into_iter().chain([SEALED]) {
            let objects: Vec<_> = self.objects.backend().list(Some(&Path::from(folder))).try_collect().await?;
            for object in objects {
                match self.objects.backend().delete(&object.location).await {
                    Ok(()) => deleted.add(object.size),
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            self.objects.remove_empty(folder).await?;
        }
        Ok(deleted)
    }

    /// Returns the names of all keys.
    async fn key_names(&self) -> Result<Vec<String>, Error> {
        let is_key = |name: &String| *name == NAMES || name.parse::<u32>().is_ok();
        Ok(self.objects.keys().listed().await?.into_iter().filter(is_key).collect())
    }

    async fn current_data_key(&self) -> Result<u32, Error> {
        let ring = self.objects.ring().await?;
        Ok(ring.sealed.as_ref().ok_or(KeyError::NoMasterKey)?.current())
    }

    async fn plain_size(&self) -> Result<Size, Error> {
        let ring = self.objects.ring_with_plain().await?;
        let mut size = Size::default();
        for folder in FOLDERS {
            let mut objects = self.objects.list_realm(&ring, Realm::Plain, &Path::from(folder), None);
            while let Some(object) = objects.try_next().await? {
                size.add(object.size);
            }
        }
        Ok(size)
    }

    async fn realm_keys(&self, realm: Realm, folder: &str) -> Result<Vec<ObjectKey>, Error> {
        let ring = self.objects.ring_with_plain().await?;
        let objects = self.objects.list_realm(&ring, realm, &Path::from(folder), None);
        objects.map_ok(|object| ObjectKey::from_path(object.location)).try_collect().await
    }

    /// Encrypts an object with the current data key, whose number is `number`, unless it already is.
    async fn encrypt_object(&self, realm: Realm, key: ObjectKey, number: u32) -> Result<Moved, Error> {
        let ring = self.objects.ring_with_plain().await?;
        let path = ring.path(realm, key.path());
        let read = match self.objects.backend().get(&path).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(Moved::Skipped),
            read => read?,
        };
        let version = UpdateVersion { e_tag: read.meta.e_tag.clone(), version: read.meta.version.clone() };
        let object = read.bytes().await?;
        let bytes = object.len() as u64;
        let key_of = |part: &[u8]| if realm == Realm::Sealed { number_of(part) } else { None };
        let moved = if key.root_folder() == PACKS {
            if key_of(format::first_record(&object)) == Some(number) {
                return Ok(Moved::Skipped);
            }
            self.encrypt_pack(realm, &key, &object).await?
        } else {
            if key_of(&object) == Some(number) {
                return Ok(Moved::Skipped);
            }
            let ring = self.objects.ring_for(&object).await?;
            let opened =
                ring.with_plain().open(object).and_then(|envelope| unseal(&key, envelope.clone()).map(|_| envelope));
            match (opened, realm) {
                (Err(_), _) => false,
                (Ok(envelope), Realm::Plain) => self.move_object(&key, &path, envelope).await?,
                (Ok(envelope), Realm::Sealed) => {
                    self.objects.replace(&path, ring.seal(envelope), version).await?;
                    true
                }
            }
        };
        Ok(if moved { Moved::Encrypted(bytes) } else { Moved::Damaged(key.to_string()) })
    }

    /// Writes the records of a pack to a new pack, as compaction does, and deletes the old one. Returns false, and
    /// changes nothing, if a record is damaged.
    async fn encrypt_pack(&self, realm: Realm, key: &ObjectKey, pack: &Bytes) -> Result<bool, Error> {
        let ring = self.objects.ring_for(format::first_record(pack)).await?;
        let Some(records) = format::records(&ring.with_plain(), key, pack) else { return Ok(false) };
        if !records.is_empty() {
            self.packs.put(records, Space::Reserve).await?;
        }
        self.objects.delete_in(&ring, realm, key).await?;
        Ok(true)
    }

    /// Moves an object from the plain to the sealed realm. Returns false if a damaged object is in its place there.
    async fn move_object(&self, key: &ObjectKey, path: &Path, envelope: Bytes) -> Result<bool, Error> {
        let ring = self.objects.ring().await?;
        let target = ring.path(Realm::Sealed, key.path());
        let sealed = ring.seal(envelope.clone());
        let backend = self.objects.backend();
        match backend.put_opts(&target, sealed.into(), PutMode::Create.into()).await {
            Ok(_) => {}
            // An interrupted run has created it.
            Err(object_store::Error::AlreadyExists { .. }) => {
                let existing = backend.get(&target).await?.bytes().await?;
                if self.objects.ring_for(&existing).await?.open(existing) != Ok(envelope) {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error.into()),
        }
        let is_deleted = matches!(backend.head(path).await, Err(object_store::Error::NotFound { .. }));
        if is_deleted && self.objects.folder().is_some() {
            self.objects.delete_in(&ring, Realm::Sealed, key).await?;
        }
        self.objects.delete_in(&ring, Realm::Plain, key).await?;
        Ok(true)
    }

    /// Deletes the data keys before `current`, if all gateways have used that one for a while. No object may be
    /// encrypted with them.
    async fn retire_keys(&self, current: u32) -> Result<Vec<u32>, Error> {
        let keys = self.objects.keys();
        let written = keys.written(&current.to_string()).await?;
        if SystemTime::now().duration_since(written).is_ok_and(|age| age < KEY_SETTLED) {
            return Ok(Vec::new());
        }
        let ring = self.objects.ring().await?;
        let former = ring.sealed.iter().flat_map(|sealed| sealed.numbers()).filter(|&number| number < current);
        let former = Vec::from_iter(former);
        for number in &former {
            keys.remove(&number.to_string()).await?;
        }
        keys.load(Duration::ZERO).await?;
        Ok(former)
    }

    /// Takes the lock of a local folder. It is released when the file is closed, even if the process is killed.
    fn lock_encryption(&self) -> Result<Option<File>, Error> {
        let Some(root) = self.objects.folder() else { return Ok(None) };
        let path = root.join(META).join("encrypt.lock");
        let file = File::options().create(true).truncate(false).write(true).open(path).map_err(Error::from_io)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::Error(error)) => Err(Error::from_io(error)),
            Err(TryLockError::WouldBlock) => {
                let problem = "another run encrypts this store: wait until it ends";
                Err(Error::from_io(io::Error::other(problem)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
