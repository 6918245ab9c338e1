//! The packs that a gateway knows: their indexes in memory, read once each, found by listing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::TryStreamExt;
use object_store::path::Path;

use crate::Error;
use crate::object::key::{self, ObjectKey};
use crate::object::version::Version;
use crate::object::{Objects, PutOutcome};
use crate::pack::format::{self, Entry, Record};
use c3_types::DocumentId;

/// Last bytes of a pack that are read at first: the index of some thousand records.
const TAIL_BYTES: u64 = 64 << 10;

/// The packs that a gateway knows.
pub struct PackIndex {
    objects: Arc<Objects>,
    known: Mutex<Known>,
    /// How often what is known changed.
    changes: AtomicU64,
    /// Held while they are listed, so that an index is read once.
    listing: tokio::sync::Mutex<()>,
}

type Known = BTreeMap<Version, Arc<Pack>>;

/// A pack's index.
#[derive(Debug)]
pub struct Pack {
    pub name: ObjectKey,
    /// By id.
    pub entries: Vec<Entry>,
    /// What is wrong with the index, where `entries` were found without it.
    pub damage: Option<String>,
}

impl Pack {
    /// The newest version of a document in it.
    pub fn newest(&self, id: DocumentId) -> Option<&Entry> {
        let after = self.entries.partition_point(|entry| entry.id <= id);
        after.checked_sub(1).map(|last| &self.entries[last]).filter(|entry| entry.id == id)
    }
}

impl PackIndex {
    /// None known yet.
    pub fn new(objects: Arc<Objects>) -> Self {
        Self {
            objects,
            known: Mutex::default(),
            changes: AtomicU64::new(0),
            listing: tokio::sync::Mutex::default(),
        }
    }

    /// A number that rises with every change of what is known.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// All that are known.
    pub fn known(&self) -> Vec<Arc<Pack>> {
        self.lock().values().cloned().collect()
    }

    /// The newest version of a document in the packs that are known.
    pub fn newest(&self, id: DocumentId) -> Option<(Arc<Pack>, Entry)> {
        let known = self.lock();
        let found = known.values().filter_map(|pack| Some((pack, pack.newest(id)?)));
        let newest = found.max_by_key(|(_, entry)| entry.version);
        newest.map(|(pack, entry)| (Arc::clone(pack), entry.clone()))
    }

    /// Learns which packs there are now.
    pub async fn refresh(&self) -> Result<(), Error> {
        let _one_at_a_time = self.listing.lock().await;
        let folder = Path::from(key::PACKS);
        let objects: Vec<_> = self.objects.list(&folder, &folder).try_collect().await?;
        let there =
            objects.into_iter().filter_map(|object| Some((key::version_at(&object.location)?, object)));
        let there = BTreeMap::from_iter(there);
        let fresh = {
            let mut known = self.lock();
            let before = known.len();
            known.retain(|stamp, _| there.contains_key(stamp));
            if known.len() < before {
                self.changes.fetch_add(1, Ordering::Release);
            }
            Vec::from_iter(there.iter().filter(|(stamp, _)| !known.contains_key(stamp)))
        };
        for (stamp, object) in fresh {
            match self.open(ObjectKey::at(object.location.clone()), object.size).await {
                Ok(pack) => {
                    let mut known = self.lock();
                    known.insert(*stamp, Arc::new(pack));
                    self.changes.fetch_add(1, Ordering::Release);
                }
                // Merged into another since, which the next look finds.
                Err(Error::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn open(&self, name: ObjectKey, bytes: u64) -> Result<Pack, Error> {
        match self.index(&name, bytes).await {
            Ok(entries) => Ok(Pack { name, entries, damage: None }),
            Err(Error::Damaged { object, problem }) => {
                tracing::warn!("{object} is damaged ({problem}): its records are looked for one by one");
                let whole = self.objects.read(&name).await?;
                Ok(Pack { name, entries: format::salvage(&whole), damage: Some(problem) })
            }
            Err(error) => Err(error),
        }
    }

    async fn index(&self, name: &ObjectKey, bytes: u64) -> Result<Vec<Entry>, Error> {
        let damaged = |problem: String| Error::damaged(name, problem);
        let tail = self.objects.read_range(name, bytes.saturating_sub(TAIL_BYTES)..bytes).await?;
        let length = format::index_and_trailer(bytes, &tail).map_err(damaged)?;
        let index = match length <= tail.len() as u64 {
            true => tail.slice(tail.len() - length as usize..),
            false => self.objects.read_range(name, bytes - length..bytes).await?,
        };
        format::index(name, bytes, &index).map_err(damaged)
    }

    /// Writes a pack of these records. They are durable when this returns.
    pub async fn put(&self, records: Vec<Record>) -> Result<u64, Error> {
        loop {
            let name = key::pack(Version::after(Version::NONE));
            match self.objects.write(&name, format::encode(&name, records.clone())).await? {
                PutOutcome::Created { bytes } => return Ok(bytes),
                PutOutcome::AlreadyExists => {}
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        // Nothing panics under the lock, and what is known stays known.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
