//! Pending-delete lists: keys that garbage collection found unreferenced, and deletes once the list is older than the
//! grace if they still are. A list is written before anything is deleted, so that no put builds on a listed object.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::TryStreamExt;
use object_store::ObjectMeta;
use object_store::path::Path;
use prost::Message;

use crate::Error;
use crate::object::Objects;
use crate::object::key::{self, ObjectKey, ObjectKind};
use crate::object::version::Version;

/// Maximum keys of one list.
pub(crate) const KEYS_MAX: usize = 10_000;

#[derive(Clone, PartialEq, Message)]
struct PendingDeletesPayload {
    #[prost(string, repeated, tag = "1")]
    keys: Vec<String>,
}

/// Keys of a list; `None` if it is damaged and may contain any key.
type Keys = Option<Arc<HashSet<String>>>;

/// Reader and writer of pending-delete lists. Reads each list once.
pub(crate) struct PendingDeletes {
    objects: Arc<Objects>,
    cached: Mutex<BTreeMap<Version, Keys>>,
}

impl PendingDeletes {
    /// Creates a reader that has read no list.
    pub(crate) fn new(objects: Arc<Objects>) -> Self {
        Self { objects, cached: Mutex::default() }
    }

    /// Returns whether an existing list contains the key.
    pub(crate) async fn names(&self, key: &ObjectKey) -> Result<bool, Error> {
        let key = key.to_string();
        for (version, _) in self.lists().await? {
            if self.list(version).await?.is_none_or(|keys| keys.contains(&key)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lists the existing lists.
    pub(crate) async fn lists(&self) -> Result<Vec<(Version, ObjectMeta)>, Error> {
        let folder = Path::from(key::PENDING_DELETES);
        let objects = self.objects.list(&folder, &folder);
        let lists = objects.try_filter_map(|object| {
            std::future::ready(Ok(key::parse_version(&object.location).map(|version| (version, object))))
        });
        let lists: Vec<_> = lists.try_collect().await?;
        self.lock().retain(|version, _| lists.iter().any(|(existing, _)| existing == version));
        Ok(lists)
    }

    /// Returns the keys of a list; `None` if it is damaged.
    pub(crate) async fn list(&self, version: Version) -> Result<Keys, Error> {
        if let Some(keys) = self.lock().get(&version) {
            return Ok(keys.clone());
        }
        let keys = match self.read(version).await {
            Ok(keys) => Some(Arc::new(keys)),
            Err(Error::Missing { .. }) => return Ok(Some(Arc::default())),
            Err(error @ Error::Damaged { .. }) => {
                tracing::warn!(%error, "no stored object is reused until `c3 fsck --repair` removes this list");
                None
            }
            Err(error) => return Err(error),
        };
        self.lock().insert(version, keys.clone());
        Ok(keys)
    }

    async fn read(&self, version: Version) -> Result<HashSet<String>, Error> {
        let key = key::pending_deletes(version);
        let (payload, _) = self.objects.get(ObjectKind::PendingDeletes, &key).await?;
        let payload = PendingDeletesPayload::decode(payload);
        let payload = payload.map_err(|error| Error::damaged(&key, error.to_string()))?;
        Ok(payload.keys.into_iter().collect())
    }

    /// Writes a list of at most [`KEYS_MAX`] keys.
    pub(crate) async fn put(&self, keys: &[ObjectKey]) -> Result<(), Error> {
        let keys = keys.iter().map(ToString::to_string).collect();
        let key = key::pending_deletes(Version::after(Version::NONE));
        let payload = PendingDeletesPayload { keys }.encode_to_vec();
        self.objects.put(ObjectKind::PendingDeletes, &key, &payload).await.map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Version, Keys>> {
        // Nothing panics under the lock.
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
