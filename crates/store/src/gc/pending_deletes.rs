//! PendingDeletes lists: names of objects that a sweep found unreferenced, and that it removes after the grace where they
//! still are. PutOutcome before anything is removed, so that no put builds on what is about to go.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::TryStreamExt;
use object_store::ObjectMeta;
use object_store::path::Path;
use prost::Message;

use crate::Error;
use crate::object::Objects;
use crate::object::key::{self, ObjectKey, ObjectKind};
use crate::object::version::Version;

/// Most names of one list.
pub const NAMES_MAX: usize = 10_000;

#[derive(Clone, PartialEq, Message)]
struct PendingDeletesPayload {
    #[prost(string, repeated, tag = "1")]
    names: Vec<String>,
}

/// The names of a list; `None` where it cannot be read and may name anything.
type Names = Option<Arc<HashSet<String>>>;

/// The condemned lists, each read once.
pub struct PendingDeletes {
    objects: Arc<Objects>,
    known: Mutex<BTreeMap<Version, Names>>,
}

impl PendingDeletes {
    /// None read yet.
    pub fn new(objects: Arc<Objects>) -> Self {
        Self { objects, known: Mutex::default() }
    }

    /// Whether a list that is there now names the object.
    pub async fn names(&self, name: &ObjectKey) -> Result<bool, Error> {
        let name = name.to_string();
        for (stamp, _) in self.lists().await? {
            if self.list(stamp).await?.is_none_or(|names| names.contains(&name)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The lists that are there now.
    pub async fn lists(&self) -> Result<Vec<(Version, ObjectMeta)>, Error> {
        let folder = Path::from(key::PENDING_DELETES);
        let objects = self.objects.list(&folder, &folder);
        let lists = objects.try_filter_map(|object| {
            std::future::ready(Ok(key::version_at(&object.location).map(|stamp| (stamp, object))))
        });
        let lists: Vec<_> = lists.try_collect().await?;
        self.lock().retain(|stamp, _| lists.iter().any(|(there, _)| there == stamp));
        Ok(lists)
    }

    /// The names of a list; `None` where it is damaged.
    pub async fn list(&self, stamp: Version) -> Result<Names, Error> {
        if let Some(names) = self.lock().get(&stamp) {
            return Ok(names.clone());
        }
        let names = match self.read(stamp).await {
            Ok(names) => Some(Arc::new(names)),
            Err(Error::Missing { .. }) => return Ok(Some(Arc::default())),
            Err(error @ Error::Damaged { .. }) => {
                tracing::warn!(%error, "nothing stored is built upon until `c3 fsck --repair` has removed it");
                None
            }
            Err(error) => return Err(error),
        };
        self.lock().insert(stamp, names.clone());
        Ok(names)
    }

    /// Reads a list, which proves it.
    pub async fn read(&self, stamp: Version) -> Result<HashSet<String>, Error> {
        let name = key::pending_deletes(stamp);
        let (payload, _) = self.objects.get(ObjectKind::PendingDeletes, &name).await?;
        let payload = PendingDeletesPayload::decode(payload);
        let payload = payload.map_err(|error| Error::damaged(&name, error.to_string()))?;
        Ok(payload.names.into_iter().collect())
    }

    /// Writes a list of at most [`NAMES_MAX`].
    pub async fn put(&self, names: &[ObjectKey]) -> Result<(), Error> {
        let names = names.iter().map(ToString::to_string).collect();
        let name = key::pending_deletes(Version::after(Version::NONE));
        let payload = PendingDeletesPayload { names }.encode_to_vec();
        self.objects.put(ObjectKind::PendingDeletes, &name, &payload).await.map(drop)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Version, Names>> {
        // Nothing panics under the lock, and lists never change.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
