//! Pending-delete lists: keys of objects that garbage collection found unreferenced. Puts do not reuse these objects.
//! Once a list is older than the grace period, a sweep deletes the listed objects that are still unreferenced.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::ObjectMeta;
use object_store::path::Path;
use prost::{DecodeError, Message};

use crate::Error;
use crate::object::key::{self, ObjectKey};
use crate::object::version::Version;
use crate::object::{Objects, Space};

/// Maximum number of keys in a list.
pub(crate) const KEYS_MAX: usize = 10_000;
/// Maximum age of the snapshot by which puts decide whether an object may be reused. A put may thus reuse an object
/// that was listed after the snapshot. The put's final check of its objects then finds this, and the put fails.
const SNAPSHOT_AGE_MAX: Duration = Duration::from_secs(1);

#[derive(Clone, PartialEq, Message)]
struct PendingDeletesPayload {
    #[prost(string, repeated, tag = "1")]
    keys: Vec<String>,
}

/// Reader and writer of pending-delete lists. Caches the lists that it has read.
pub(crate) struct PendingDeletes {
    objects: Arc<Objects>,
    /// The last snapshot, and the time when it was taken. The time is `None` if `recent` must not return the snapshot.
    cached: Mutex<(Option<Instant>, Arc<Snapshot>)>,
}

/// All lists that existed at one time.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) lists: Vec<PendingList>,
}

/// A pending-delete list.
pub(crate) struct PendingList {
    pub(crate) version: Version,
    pub(crate) object: ObjectMeta,
    /// Keys in the list; `None` if the list is damaged and may therefore contain any key.
    pub(crate) keys: Option<Arc<HashSet<String>>>,
}

impl Snapshot {
    /// Returns whether a list contains the key. A damaged list counts as containing every key.
    pub(crate) fn contains(&self, key: &ObjectKey) -> bool {
        let key = key.to_string();
        self.lists.iter().any(|list| list.keys.as_ref().is_none_or(|keys| keys.contains(&key)))
    }
}

impl PendingDeletes {
    /// Creates a reader with an empty cache.
    pub(crate) fn new(objects: Arc<Objects>) -> Self {
        Self { objects, cached: Mutex::default() }
    }

    /// Returns a snapshot that is at most [`SNAPSHOT_AGE_MAX`] old. A put may choose objects by this snapshot: after
    /// the manifest is written, the objects are checked against a new one.
    pub(crate) async fn recent(&self) -> Result<Arc<Snapshot>, Error> {
        let (taken, snapshot) = self.lock().clone();
        match taken {
            Some(taken) if taken.elapsed() <= SNAPSHOT_AGE_MAX => Ok(snapshot),
            _ => self.load().await,
        }
    }

    /// Takes a new snapshot. It contains every list that was durable before the call, unless the list was deleted.
    pub(crate) async fn load(&self) -> Result<Arc<Snapshot>, Error> {
        let taken = Instant::now();
        let folder = Path::from(key::PENDING_DELETES);
        let objects: Vec<_> = self.objects.list(&folder).try_collect().await?;
        let known = Arc::clone(&self.lock().1);
        let mut snapshot = Snapshot::default();
        for object in objects {
            let Some(version) = key::parse_version(&object.location) else { continue };
            let keys = match known.lists.iter().find(|list| list.version == version) {
                Some(list) => list.keys.clone(),
                None => match self.read(version).await {
                    Ok(keys) => Some(Arc::new(keys)),
                    Err(Error::Missing { .. }) => continue,
                    Err(error @ Error::Damaged { .. }) => {
                        tracing::warn!(%error, "no object is reused until `c3 fsck --repair` removes this list");
                        None
                    }
                    Err(error) => return Err(error),
                },
            };
            snapshot.lists.push(PendingList { version, object, keys });
        }
        let snapshot = Arc::new(snapshot);
        *self.lock() = (Some(taken), Arc::clone(&snapshot));
        Ok(snapshot)
    }

    async fn read(&self, version: Version) -> Result<HashSet<String>, Error> {
        let key = key::pending_deletes(version);
        let (payload, _) = self.objects.get(&key).await?;
        decode(payload).map_err(|error| Error::damaged(&key, error.to_string()))
    }

    /// Writes a list of at most [`KEYS_MAX`] keys.
    pub(crate) async fn put(&self, keys: &[ObjectKey]) -> Result<(), Error> {
        let key = key::pending_deletes(Version::after(Version::NONE));
        self.objects.put(&key, &encode(keys), Space::Reserve).await?;
        // Makes `recent` take a new snapshot, so that puts of this gateway do not choose the listed objects.
        self.lock().0 = None;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, (Option<Instant>, Arc<Snapshot>)> {
        // The lock is never poisoned: no code panics while it holds it.
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Encodes the payload of a list.
pub(crate) fn encode(keys: &[ObjectKey]) -> Vec<u8> {
    PendingDeletesPayload { keys: keys.iter().map(ToString::to_string).collect() }.encode_to_vec()
}

/// Decodes the payload of a list.
pub(crate) fn decode(payload: Bytes) -> Result<HashSet<String>, DecodeError> {
    Ok(PendingDeletesPayload::decode(payload)?.keys.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_recent_snapshot_is_reused_until_this_gateway_writes_a_list() {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().to_str().unwrap().into();
        let open = async || PendingDeletes::new(Arc::new(Objects::open(&settings).await.unwrap()));
        let (ours, other) = (open().await, open().await);
        let keys = ["latents/a", "latents/b"].map(|path| ObjectKey::from_path(Path::from(path)));
        assert!(!ours.recent().await.unwrap().contains(&keys[0]));
        other.put(&keys[..1]).await.unwrap();
        assert!(!ours.recent().await.unwrap().contains(&keys[0]));
        let loaded = ours.load().await.unwrap();
        assert!(loaded.contains(&keys[0]) && !loaded.contains(&keys[1]));
        ours.put(&keys[1..]).await.unwrap();
        assert!(ours.recent().await.unwrap().contains(&keys[1]));
        let damaged = folder.path().join(key::pending_deletes(loaded.lists[0].version).to_string());
        std::fs::write(damaged, b"").unwrap();
        // A damaged list may contain any key.
        let unlisted = ObjectKey::from_path(Path::from("latents/c"));
        assert!(open().await.load().await.unwrap().contains(&unlisted));
    }
}
