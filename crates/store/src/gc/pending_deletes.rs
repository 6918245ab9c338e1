//! Condemned lists: names of objects that a sweep found unreferenced, and that it removes after the grace where they
//! still are. Written before anything is removed, so that no put builds on what is about to go.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::TryStreamExt;
use object_store::ObjectMeta;
use object_store::path::Path;
use prost::Message;

use super::layout::{self, Name, ObjectKind};
use super::objects::{Objects, StoreError};
use super::stamp::Stamp;

/// Most names of one list.
pub(crate) const NAMES_MAX: usize = 10_000;

#[derive(Clone, PartialEq, Message)]
struct CondemnedPayload {
    #[prost(string, repeated, tag = "1")]
    names: Vec<String>,
}

/// The names of a list; `None` where it cannot be read and may name anything.
type Names = Option<Arc<HashSet<String>>>;

/// The condemned lists, each read once.
pub(crate) struct Condemned {
    objects: Arc<Objects>,
    known: Mutex<BTreeMap<Stamp, Names>>,
}

impl Condemned {
    /// None read yet.
    pub(crate) fn new(objects: Arc<Objects>) -> Self {
        Self { objects, known: Mutex::default() }
    }

    /// Whether a list that is there now names the object.
    pub(crate) async fn names(&self, name: &Name) -> Result<bool, StoreError> {
        let name = name.to_string();
        for (stamp, _) in self.lists().await? {
            if self.list(stamp).await?.is_none_or(|names| names.contains(&name)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The lists that are there now.
    pub(crate) async fn lists(&self) -> Result<Vec<(Stamp, ObjectMeta)>, StoreError> {
        let folder = Path::from(layout::CONDEMNED);
        let objects = self.objects.list(&folder, &folder);
        let lists = objects.try_filter_map(|object| {
            std::future::ready(Ok(layout::stamp_at(&object.location).map(|stamp| (stamp, object))))
        });
        let lists: Vec<_> = lists.try_collect().await?;
        self.lock().retain(|stamp, _| lists.iter().any(|(there, _)| there == stamp));
        Ok(lists)
    }

    /// The names of a list; `None` where it is damaged.
    pub(crate) async fn list(&self, stamp: Stamp) -> Result<Names, StoreError> {
        if let Some(names) = self.lock().get(&stamp) {
            return Ok(names.clone());
        }
        let names = match self.read(stamp).await {
            Ok(names) => Some(Arc::new(names)),
            Err(StoreError::Missing { .. }) => return Ok(Some(Arc::default())),
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::warn!(%error, "nothing stored is built upon until `c3 fsck --repair` has removed it");
                None
            }
            Err(error) => return Err(error),
        };
        self.lock().insert(stamp, names.clone());
        Ok(names)
    }

    /// Reads a list, which proves it.
    pub(crate) async fn read(&self, stamp: Stamp) -> Result<HashSet<String>, StoreError> {
        let name = layout::condemned(stamp);
        let (payload, _) = self.objects.get(ObjectKind::Condemned, &name).await?;
        let payload = CondemnedPayload::decode(payload);
        let payload = payload.map_err(|error| StoreError::damaged(&name, error.to_string()))?;
        Ok(payload.names.into_iter().collect())
    }

    /// Writes a list of at most [`NAMES_MAX`].
    pub(crate) async fn put(&self, names: &[Name]) -> Result<(), StoreError> {
        let names = names.iter().map(ToString::to_string).collect();
        let name = layout::condemned(Stamp::after(Stamp::NONE));
        let payload = CondemnedPayload { names }.encode_to_vec();
        self.objects.put(ObjectKind::Condemned, &name, &payload).await.map(drop)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Stamp, Names>> {
        // Nothing panics under the lock, and lists never change.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
