//! Key ring of a tenant: loads its keys, creates them when the tenant is first used with a master key, and watches
//! them.
//!
//! The keys are in `meta/keys`: `names` is the name key, and `1`, `2` and so on are data keys. The highest number
//! encrypts new objects. Two empty objects are marks: `complete` says that no plain object is left, and `destroyed`
//! that the keys were destroyed on purpose.
//!
//! Other programs add keys, or destroy all of them. A ring therefore lists its keys every [`POLL`] while the store is
//! open, and at once when an object names an unknown key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error as BackendError, ObjectStore, ObjectStoreExt, PutMode};

use crate::encryption::KeyError;
use crate::encryption::data_key::{DataKey, number_of};
use crate::encryption::master::MasterKeys;
use crate::encryption::name_key::NameKey;
use crate::encryption::secret::Secret;
use crate::encryption::wrapped;

/// Interval at which a ring lists its keys: a running gateway forgets destroyed keys, and uses a new key for writes,
/// after at most this time.
pub(crate) const POLL: Duration = Duration::from_secs(15);
/// Maximum age of a ring. An operation that finds an older one, because the store did not answer, lists the keys first.
const AGE_MAX: Duration = Duration::from_secs(60);
/// Minimum time between two listings because of unknown keys, so that a damaged store is not listed for each object.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(1);
/// Number of the first data key.
const FIRST: u32 = 1;

/// Folder of the keys.
pub(crate) const KEYS: [&str; 2] = ["meta", "keys"];
/// Name of the name key.
pub(crate) const NAMES: &str = "names";
/// Mark of a store without plain objects.
pub(crate) const COMPLETE: &str = "complete";
/// Mark of a store whose keys were destroyed.
pub(crate) const DESTROYED: &str = "destroyed";

/// Folder of all encrypted objects.
pub(crate) const SEALED: &str = "sealed";

/// The keys of a tenant, as of their last listing.
#[derive(Debug)]
pub(crate) struct Ring {
    /// `None` if the store is not encrypted.
    pub(crate) sealed: Option<Sealed>,
    /// True if the store may contain plain objects.
    pub(crate) has_plain: bool,
}

/// The keys of an encrypted store.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    pub(crate) names: Arc<NameKey>,
    /// Data keys by number; never empty.
    keys: BTreeMap<u32, Arc<DataKey>>,
}

impl Sealed {
    /// Returns the number of the key that encrypts new objects.
    pub(crate) fn current(&self) -> u32 {
        self.keys.keys().next_back().copied().unwrap_or(FIRST)
    }

    /// Returns the numbers of all keys.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.keys.keys().copied()
    }

    /// Encrypts bytes with the current key.
    pub(crate) fn seal(&self, plain: &[u8]) -> Bytes {
        let (_, key) = self.keys.last_key_value().expect("a ring has a data key");
        key.seal(plain)
    }

    /// Decrypts bytes; `None` if they are damaged, or sealed by an unknown key.
    pub(crate) fn open(&self, sealed: &[u8]) -> Option<Bytes> {
        self.keys.get(&number_of(sealed)?)?.open(sealed)
    }

    /// Returns whether the ring has this key.
    pub(crate) fn has(&self, number: u32) -> bool {
        self.keys.contains_key(&number)
    }
}

/// Loads and watches the keys of a tenant.
#[derive(Clone)]
pub(crate) struct KeyRing(Arc<Inner>);

struct Inner {
    store: Arc<dyn ObjectStore>,
    /// Path of the tenant's store below the root of all stores, with a slash at its end unless it is the root.
    place: String,
    masters: MasterKeys,
    /// Top-level folders of the store's objects.
    folders: &'static [&'static str],
    state: RwLock<State>,
    /// Lets only one listing run at a time.
    loading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
enum State {
    #[default]
    Unloaded,
    Loaded {
        ring: Arc<Ring>,
        listed: Instant,
    },
    Destroyed,
}

impl KeyRing {
    /// Creates the ring of the store below `place`, an empty path for the root. `folders` are the top-level folders of
    /// its objects. Reads nothing yet.
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        place: &Path,
        masters: MasterKeys,
        folders: &'static [&'static str],
    ) -> Self {
        let place = if place.as_ref().is_empty() { String::new() } else { format!("{place}/") };
        let (state, loading) = (RwLock::default(), tokio::sync::Mutex::default());
        Self(Arc::new(Inner { store, place, masters, folders, state, loading }))
    }

    /// Returns the master keys.
    pub(crate) fn masters(&self) -> &MasterKeys {
        &self.0.masters
    }

    /// Returns the ring if it was loaded and is not too old. Without a master key, it never becomes old.
    pub(crate) fn fresh(&self) -> Option<Arc<Ring>> {
        match &*self.0.read() {
            State::Loaded { ring, listed } if ring.sealed.is_none() || listed.elapsed() < AGE_MAX => {
                Some(Arc::clone(ring))
            }
            _ => None,
        }
    }

    /// Returns whether the keys were destroyed.
    pub(crate) fn is_destroyed(&self) -> bool {
        matches!(*self.0.read(), State::Destroyed)
    }

    /// Lists and loads the keys, unless they were listed less than `age` ago. Creates keys if there are none, but a
    /// master key. From then on, the keys are listed regularly until the ring is dropped.
    pub(crate) async fn load(&self, age: Duration) -> Result<Arc<Ring>, KeyError> {
        let (ring, is_first) = self.0.load(age).await?;
        if is_first && ring.sealed.is_some() {
            tokio::spawn(poll(Arc::downgrade(&self.0)));
        }
        Ok(ring)
    }

    /// Returns a ring that has this data key. Lists the keys if it is unknown.
    pub(crate) async fn load_key(&self, number: u32) -> Result<Arc<Ring>, KeyError> {
        let has = |ring: &Ring| ring.sealed.as_ref().is_some_and(|sealed| sealed.has(number));
        if let Some(ring) = self.fresh().filter(|ring| has(ring)) {
            return Ok(ring);
        }
        let ring = self.load(UNKNOWN_PAUSE).await?;
        if has(&ring) { Ok(ring) } else { Err(KeyError::Missing(number)) }
    }

    /// Returns the names of the objects in the folder of keys.
    pub(crate) async fn listed(&self) -> Result<BTreeSet<String>, KeyError> {
        self.0.listed().await
    }

    /// Reads a key, and the id of the master key that wrapped it.
    pub(crate) async fn read(&self, name: &str) -> Result<(Secret, String), KeyError> {
        self.0.read_key(name).await
    }

    /// Stores a new data key under the number after the highest one, and loads it. Returns its number. If another
    /// program stores a key at the same time, that key is the new one.
    pub(crate) async fn add(&self) -> Result<u32, KeyError> {
        let ring = self.load(Duration::ZERO).await?;
        let number = ring.sealed.as_ref().ok_or(KeyError::NoMasterKey)?.current() + 1;
        self.0.create(&number.to_string()).await?;
        self.load(Duration::ZERO).await.map(|_| number)
    }

    /// Wraps a key with the first master key, and replaces its stored form.
    pub(crate) async fn rewrap(&self, name: &str, secret: &Secret) -> Result<(), KeyError> {
        let stored = wrapped::wrap(&self.0.masters, &self.0.context(name), secret).await?;
        self.0.store.put(&path(name), stored.into()).await?;
        Ok(())
    }

    /// Sets a mark.
    pub(crate) async fn mark(&self, name: &str) -> Result<(), KeyError> {
        self.0.store.put(&path(name), Bytes::new().into()).await?;
        Ok(())
    }

    /// Returns the time when a key was written.
    pub(crate) async fn written(&self, name: &str) -> Result<SystemTime, KeyError> {
        Ok(self.0.store.head(&path(name)).await?.last_modified.into())
    }

    /// Deletes a key, or a mark.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), KeyError> {
        match self.0.store.delete(&path(name)).await {
            Ok(()) | Err(BackendError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Inner {
    /// Returns the ring, and whether it was loaded for the first time.
    async fn load(&self, age: Duration) -> Result<(Arc<Ring>, bool), KeyError> {
        let called = Instant::now();
        let _one = self.loading.lock().await;
        let known = match &*self.read() {
            State::Destroyed => return Err(KeyError::Destroyed),
            // `listed` is after `called` if this call waited for another one, which did its work.
            State::Loaded { ring, listed } if *listed > called || listed.elapsed() < age => {
                return Ok((Arc::clone(ring), false));
            }
            State::Loaded { ring, .. } => Some(Arc::clone(ring)),
            State::Unloaded => None,
        };
        let listed = Instant::now();
        let loaded = self.load_from(known.as_deref()).await;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match loaded {
            Ok(ring) => {
                let ring = Arc::new(ring);
                *state = State::Loaded { ring: Arc::clone(&ring), listed };
                Ok((ring, known.is_none()))
            }
            Err(error) => {
                if matches!(error, KeyError::Destroyed) {
                    *state = State::Destroyed;
                }
                Err(error)
            }
        }
    }

    async fn load_from(&self, known: Option<&Ring>) -> Result<Ring, KeyError> {
        let listed = self.listed().await?;
        if listed.contains(DESTROYED) {
            return Err(KeyError::Destroyed);
        }
        let numbers = BTreeSet::from_iter(listed.iter().filter_map(|name| name.parse::<u32>().ok()));
        if self.masters.is_empty() {
            let is_encrypted = listed.contains(NAMES) || !numbers.is_empty();
            return if is_encrypted { Err(KeyError::NoMasterKey) } else { Ok(Ring { sealed: None, has_plain: true }) };
        }
        let has_plain = !listed.contains(COMPLETE);
        match known.and_then(|ring| ring.sealed.as_ref()) {
            Some(known) => Ok(Ring { sealed: Some(self.extend(known, &numbers).await), has_plain }),
            None if listed.contains(NAMES) && !numbers.is_empty() => {
                let names = Arc::new(NameKey::new(&self.read_key(NAMES).await?.0, self.folders));
                let mut keys = BTreeMap::new();
                for number in numbers {
                    keys.insert(number, self.data_key(number).await?);
                }
                Ok(Ring { sealed: Some(Sealed { names, keys }), has_plain })
            }
            None => self.begin().await,
        }
    }

    /// Adds new keys to known ones, and drops deleted ones. A key that cannot be read is left out until the next
    /// listing. If no key is listed, the store is unavailable or damaged, and the known keys are kept.
    async fn extend(&self, known: &Sealed, numbers: &BTreeSet<u32>) -> Sealed {
        let mut keys = known.keys.clone();
        if !numbers.is_empty() {
            keys.retain(|number, _| numbers.contains(number));
        }
        for &number in numbers.iter().filter(|number| !known.has(**number)) {
            match self.data_key(number).await {
                Ok(key) => drop(keys.insert(number, key)),
                Err(error) => tracing::warn!(%error, number, "a new key of the store cannot be used yet"),
            }
        }
        let keys = if keys.is_empty() { known.keys.clone() } else { keys };
        Sealed { names: Arc::clone(&known.names), keys }
    }

    /// Creates the keys of a store that has none.
    async fn begin(&self) -> Result<Ring, KeyError> {
        if self.has_objects(&Path::from(SEALED)).await? {
            return Err(KeyError::Damaged(self.context("")));
        }
        let names = Arc::new(NameKey::new(&self.create(NAMES).await?, self.folders));
        let key = Arc::new(DataKey::new(FIRST, &self.create(&FIRST.to_string()).await?));
        let mut has_plain = false;
        for folder in self.folders {
            has_plain = has_plain || self.has_objects(&Path::from(*folder)).await?;
        }
        if !has_plain {
            self.store.put(&path(COMPLETE), Bytes::new().into()).await?;
        }
        tracing::info!(place = self.place, has_plain, "new objects are encrypted from now on");
        Ok(Ring { sealed: Some(Sealed { names, keys: BTreeMap::from([(FIRST, key)]) }), has_plain })
    }

    async fn has_objects(&self, folder: &Path) -> Result<bool, KeyError> {
        Ok(self.store.list(Some(folder)).try_next().await?.is_some())
    }

    async fn data_key(&self, number: u32) -> Result<Arc<DataKey>, KeyError> {
        let (secret, _) = self.read_key(&number.to_string()).await?;
        Ok(Arc::new(DataKey::new(number, &secret)))
    }

    async fn listed(&self) -> Result<BTreeSet<String>, KeyError> {
        let folder = Path::from_iter(KEYS);
        let objects = self.store.list(Some(&folder));
        let names = objects.try_filter_map(async |object| Ok(object.location.filename().map(str::to_owned)));
        Ok(names.try_collect().await?)
    }

    async fn read_key(&self, name: &str) -> Result<(Secret, String), KeyError> {
        let stored = self.store.get(&path(name)).await?.bytes().await?;
        wrapped::unwrap(&self.masters, &self.context(name), stored).await
    }

    /// Stores a random key, unless the key exists. Returns the stored one.
    async fn create(&self, name: &str) -> Result<Secret, KeyError> {
        let secret = Secret::random();
        let stored = wrapped::wrap(&self.masters, &self.context(name), &secret).await?;
        match self.store.put_opts(&path(name), stored.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(secret),
            Err(BackendError::AlreadyExists { .. }) => Ok(self.read_key(name).await?.0),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the path of a key below the root of all stores.
    fn context(&self, name: &str) -> String {
        format!("{}{}", self.place, path(name))
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        // The lock is never poisoned: no code panics while it holds it.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn path(name: &str) -> Path {
    Path::from_iter(KEYS).join(name)
}

/// Lists the keys regularly until they are destroyed or the ring is dropped.
async fn poll(ring: Weak<Inner>) {
    loop {
        tokio::time::sleep(POLL).await;
        let Some(ring) = ring.upgrade() else { return };
        match ring.load(Duration::ZERO).await {
            Ok(_) => {}
            Err(KeyError::Destroyed) => {
                tracing::warn!(place = ring.place, "the keys of the store were destroyed and are forgotten now");
                return;
            }
            Err(error) => tracing::debug!(%error, "the keys of the store cannot be listed"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
