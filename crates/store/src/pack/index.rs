//! In-memory index of all packs. The index in each pack is read once, when a listing first shows the pack.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use c3_types::DocumentId;
use futures::TryStreamExt;
use object_store::path::Path;

use crate::Error;
use crate::manifest::{LocatedVersion, Location};
use crate::object::key::{self, ObjectKey};
use crate::object::version::Version;
use crate::object::{Objects, PutOutcome, Space};
use crate::pack::format::{self, Entry, Record};

/// Number of bytes at the end of a pack that are read first. They contain the whole index of a pack of up to a thousand
/// records.
const TAIL_BYTES: u64 = 64 << 10;

type Packs = BTreeMap<Version, Arc<Pack>>;

/// The packs of the store, as of the last listing.
pub(crate) struct PackIndex {
    objects: Arc<Objects>,
    packs: Mutex<Packs>,
    /// Number of changes of `packs` so far.
    changes: AtomicU64,
    /// Number of refreshes that have begun.
    refreshes: AtomicU64,
    /// Number of the last refresh that has ended. The lock lets only one refresh run at a time, so that no pack's index
    /// is read twice.
    refreshing: tokio::sync::Mutex<u64>,
}

/// The index of a pack.
#[derive(Debug)]
pub(crate) struct Pack {
    pub(crate) key: ObjectKey,
    /// Entries of the records, sorted by id and version.
    pub(crate) entries: Vec<Entry>,
    /// Fault of the index; `None` if it is intact. With a fault, `entries` lists the intact records that a scan of the
    /// pack found.
    pub(crate) damage: Option<String>,
}

impl Pack {
    /// Returns the entries of a range of documents.
    pub(crate) fn entries_of(&self, ids: RangeInclusive<DocumentId>) -> &[Entry] {
        let first = self.entries.partition_point(|entry| entry.id < *ids.start());
        let entries = &self.entries[first..];
        &entries[..entries.partition_point(|entry| entry.id <= *ids.end())]
    }

    /// Returns the version and location of an entry of this pack.
    pub(crate) fn located(&self, entry: &Entry) -> LocatedVersion {
        let location = Location::Pack { pack: self.key.clone(), range: entry.range.clone() };
        LocatedVersion { version: entry.version, location }
    }
}

impl PackIndex {
    /// Creates an empty index.
    pub(crate) fn new(objects: Arc<Objects>) -> Self {
        let (packs, refreshing) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { objects, packs, changes: AtomicU64::new(0), refreshes: AtomicU64::new(0), refreshing }
    }

    /// Returns a number that increases whenever a refresh adds or removes packs.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Returns all packs, as of the last refresh.
    pub(crate) fn all(&self) -> Vec<Arc<Pack>> {
        self.lock().values().cloned().collect()
    }

    /// Returns the versions of a document in all packs, as of the last refresh.
    pub(crate) fn versions(&self, id: DocumentId) -> Vec<LocatedVersion> {
        let packs = self.lock();
        packs.values().flat_map(|pack| pack.entries_of(id..=id).iter().map(|entry| pack.located(entry))).collect()
    }

    /// Lists the packs of the store, reads the indexes of new packs, and removes deleted packs from the index. Does
    /// nothing if, while this call waited for its turn, another refresh both began and ended.
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        let begun = self.refreshes.load(Ordering::Acquire);
        let mut last_done = self.refreshing.lock().await;
        if *last_done > begun {
            return Ok(());
        }
        let number = self.refreshes.fetch_add(1, Ordering::AcqRel) + 1;
        self.refresh_now().await?;
        *last_done = number;
        Ok(())
    }

    async fn refresh_now(&self) -> Result<(), Error> {
        let folder = Path::from(key::PACKS);
        let objects: Vec<_> = self.objects.list(&folder).try_collect().await?;
        let listed = objects.into_iter().filter_map(|object| Some((key::parse_version(&object.location)?, object)));
        let listed = BTreeMap::from_iter(listed);
        let new = {
            let mut packs = self.lock();
            let count = packs.len();
            packs.retain(|version, _| listed.contains_key(version));
            if packs.len() < count {
                self.changes.fetch_add(1, Ordering::Release);
            }
            Vec::from_iter(listed.iter().filter(|(version, _)| !packs.contains_key(version)))
        };
        for (version, object) in new {
            match self.open(ObjectKey::from_path(object.location.clone()), object.size).await {
                Ok(pack) => {
                    let mut packs = self.lock();
                    packs.insert(*version, Arc::new(pack));
                    self.changes.fetch_add(1, Ordering::Release);
                }
                // The pack was compacted after the listing. The next refresh finds the pack that replaced it.
                Err(Error::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn open(&self, key: ObjectKey, bytes: u64) -> Result<Pack, Error> {
        match self.read_index(&key, bytes).await {
            Ok(entries) => Ok(Pack { key, entries, damage: None }),
            Err(Error::Damaged { object, problem }) => {
                tracing::warn!("{object} is damaged ({problem}): salvaging its records");
                let pack = self.objects.read(&key).await?;
                let ring = self.objects.ring_for(format::first_record(&pack)).await?;
                Ok(Pack { key, entries: format::salvage(&ring, &pack), damage: Some(problem) })
            }
            Err(error) => Err(error),
        }
    }

    async fn read_index(&self, key: &ObjectKey, bytes: u64) -> Result<Vec<Entry>, Error> {
        let damaged = |problem: String| Error::damaged(key, problem);
        let tail = self.objects.read_range(key, bytes.saturating_sub(TAIL_BYTES)..bytes).await?;
        let length = format::index_and_trailer(bytes, &tail).map_err(damaged)?;
        let index = match length <= tail.len() as u64 {
            true => tail.slice(tail.len() - length as usize..),
            false => self.objects.read_range(key, bytes - length..bytes).await?,
        };
        let ring = self.objects.ring_for(&index).await?;
        format::index(&ring, key, bytes, &index).map_err(damaged)
    }

    /// Writes a pack durably and returns its size in bytes. Does not add the pack to this index; the next refresh does.
    pub(crate) async fn put(&self, records: Vec<Record>, space: Space) -> Result<u64, Error> {
        loop {
            let key = key::pack(Version::after(Version::NONE));
            let pack = format::encode(&*self.objects.ring().await?, &key, records.clone());
            match self.objects.write_stored(&key, pack, space).await? {
                PutOutcome::Created { bytes } => return Ok(bytes),
                PutOutcome::AlreadyExists => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Packs> {
        // The lock is never poisoned: no code panics while it holds it.
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
