//! Fsck: reads every object and reports faults. Repair mode switches to intact copies and deletes damaged objects.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use async_stream::try_stream;
use bytes::Bytes;
use c3_types::{AffectedWindows, Finding, FsckEvent, FsckMode, FsckSummary};
use futures::{Stream, TryStreamExt};
use object_store::path::Path;

use crate::encryption::ring::Ring;
use crate::manifest::{Inventory, LocatedVersion, Location, Manifest, ManifestCopy, Placement, ShardEntry};
use crate::object::Space;
use crate::object::envelope::unseal;
use crate::object::key::{
    self, CORRECTIONS, DELETED, LATENTS, ObjectKey, PACKS, PENDING_DELETES, SEARCH, ShardKeys, UPLOADS,
};
use crate::pack::format::{self, Entry, Record};
use crate::register::maintenance::REGISTERS;
use crate::{Error, Shard, Store};

/// Minimum time between two reports of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// State of a run of fsck.
struct Check<'a> {
    store: &'a Store,
    mode: FsckMode,
    summary: FsckSummary,
    /// Objects that readable current manifests refer to, damaged or not.
    referenced: HashSet<ObjectKey>,
    /// Shards that were checked, each with its fault, or `None` if it is intact.
    shards: HashMap<ShardKeys, Option<Error>>,
}

/// Checks every object of the store, and repairs faults if `mode` is repair. Yields each fault and the progress,
/// then a summary.
pub fn check(store: &Store, mode: FsckMode) -> impl Stream<Item = Result<FsckEvent, Error>> + Send {
    try_stream! {
        let mut check = Check {
            store,
            mode,
            summary: FsckSummary::default(),
            referenced: HashSet::new(),
            shards: HashMap::new(),
        };
        for pack in check.list(PACKS).await? {
            for finding in check.pack(&pack).await? {
                yield FsckEvent::Finding(finding);
            }
        }
        let inventory = store.inventory().await?;
        let newest = inventory.newest();
        let current = |copy| inventory.is_current(copy, &newest);
        let documents_total = inventory.copies.iter().filter(|copy| current(copy)).count() as u64;
        let mut reported = Instant::now();
        yield FsckEvent::Progress { documents: 0, documents_total };
        for copy in &inventory.copies {
            if reported.elapsed() >= PROGRESS_INTERVAL {
                reported = Instant::now();
                yield FsckEvent::Progress { documents: check.summary.documents, documents_total };
            }
            let current = current(copy);
            for finding in check.document(copy, &inventory, current).await? {
                yield FsckEvent::Finding(finding);
            }
        }
        for folder in [LATENTS, CORRECTIONS, DELETED, PENDING_DELETES, UPLOADS, SEARCH] {
            for key in check.list(folder).await? {
                if let Some(finding) = check.other(folder, &key).await? {
                    yield FsckEvent::Finding(finding);
                }
            }
        }
        for folder in REGISTERS {
            for generations in store.registers(&Path::from(folder)).await?.into_values() {
                check.summary.objects += generations.len() as u64;
                if let Some(finding) = store.fsck_register(&generations, mode).await? {
                    yield FsckEvent::Finding(finding);
                }
            }
        }
        check.summary.foreign = store.objects.survey().await?.foreign;
        yield FsckEvent::Done(check.summary);
    }
}

impl Check<'_> {
    async fn list(&self, folder: &str) -> Result<Vec<ObjectKey>, Error> {
        let folder = Path::from(folder);
        let objects = self.store.objects.list(&folder);
        objects.map_ok(|object| ObjectKey::from_path(object.location)).try_collect().await
    }

    /// Checks a pack's index and records. Repair mode rewrites a damaged pack if no needed record is lost.
    async fn pack(&mut self, key: &ObjectKey) -> Result<Vec<Finding>, Error> {
        let pack = match self.store.objects.read(key).await {
            Err(Error::Missing { .. }) => return Ok(Vec::new()),
            pack => pack?,
        };
        self.summary.objects += 1;
        let ring = self.store.objects.ring_for(format::first_record(&pack)).await?;
        let (entries, problem) = read_index(&ring, key, &pack);
        let (mut damaged, mut records) = (Vec::new(), Vec::new());
        for entry in &entries {
            let object = pack.slice(entry.range.start as usize..entry.range.end as usize);
            let record_key = key::manifest(entry.id, entry.version);
            let envelope = ring.open(object).and_then(|object| unseal(&record_key, object.clone()).map(|_| object));
            match envelope {
                Ok(object) => records.push(Record { id: entry.id, version: entry.version, object }),
                Err(_) => damaged.push(entry),
            }
        }
        if problem.is_none() && damaged.is_empty() {
            return Ok(Vec::new());
        }
        let expendable = self.all_expendable(key, &damaged).await?;
        let repaired = self.mode == FsckMode::Repair && expendable && format::is_complete(&pack, &entries);
        if repaired {
            if !records.is_empty() {
                self.store.packs.put(records, Space::Free).await?;
            }
            self.store.objects.delete(key).await?;
            self.store.packs.refresh().await?;
        }
        let finding = |problem: String| Finding { object: key.to_string(), problem, affected: None, repaired };
        let mut findings = Vec::from_iter(problem.map(finding));
        // `document` reports damaged records that are needed.
        if expendable && !damaged.is_empty() {
            findings.push(finding("a record that no document needs is damaged".to_owned()));
        }
        Ok(findings)
    }

    async fn all_expendable(&self, pack: &ObjectKey, damaged: &[&Entry]) -> Result<bool, Error> {
        let inventory = self.store.inventory().await?;
        for entry in damaged {
            let location = Location::Pack { pack: pack.clone(), range: entry.range.clone() };
            let located = LocatedVersion { version: entry.version, location };
            let copy = ManifestCopy { id: entry.id, located, object: None };
            if !self.is_expendable(&copy, &inventory).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns whether a damaged manifest is not needed: it has a tombstone, or an intact copy of the same or a higher
    /// version exists.
    async fn is_expendable(&self, copy: &ManifestCopy, inventory: &Inventory) -> bool {
        let version = copy.located.version;
        if inventory.deleted.get(&copy.id).is_some_and(|&deleted| deleted >= version) {
            return true;
        }
        for other in inventory.copies_of(copy.id) {
            let replaces = other.located.version >= version && other.located != copy.located;
            if replaces && self.store.read_manifest(other.id, &other.located).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Checks a manifest and, if it is current, its shards.
    async fn document(
        &mut self,
        copy: &ManifestCopy,
        inventory: &Inventory,
        current: bool,
    ) -> Result<Vec<Finding>, Error> {
        self.summary.objects += u64::from(copy.object.is_some());
        self.summary.documents += u64::from(current);
        let manifest = match self.store.read_manifest(copy.id, &copy.located).await {
            Ok(manifest) => manifest.value,
            Err(Error::Missing { .. }) => return Ok(Vec::new()),
            Err(Error::Damaged { object, problem }) => {
                let expendable = self.is_expendable(copy, inventory).await;
                if copy.object.is_none() && expendable {
                    return Ok(Vec::new());
                }
                let repaired = copy.object.is_some() && expendable && self.mode == FsckMode::Repair;
                if repaired {
                    self.store.objects.delete(&key::manifest(copy.id, copy.located.version)).await?;
                }
                let affected = Some(AffectedWindows { document: copy.id, first_window: 0, windows: 0 });
                return Ok(vec![Finding { object, problem, affected, repaired }]);
            }
            Err(error) => return Err(error),
        };
        match current {
            true => self.shards(manifest).await,
            false => Ok(Vec::new()),
        }
    }

    /// Checks the shards of a document. Repair mode stores a new manifest that refers to intact copies of the shards.
    async fn shards(&mut self, checked: Manifest) -> Result<Vec<Finding>, Error> {
        let mut manifest = checked.clone();
        let (mut findings, mut first_window) = (Vec::new(), 0);
        for number in 0..manifest.shards.len() {
            let entry = &manifest.shards[number];
            let windows = entry.window_bytes.len() as u64;
            if let Some(error) = self.shard(&manifest, entry).await? {
                let (object, problem) = match error {
                    Error::Missing { object } => (object, "it is missing".to_owned()),
                    Error::Damaged { object, problem } => (object, problem),
                    error => return Err(error),
                };
                let affected = Some(AffectedWindows { document: manifest.id, first_window, windows });
                let replacement = match self.mode {
                    FsckMode::Repair => self.find_replacement(&manifest, entry).await?,
                    FsckMode::Report => None,
                };
                let repaired = replacement.is_some();
                if let Some(replacement) = replacement {
                    manifest.shards[number].placement = replacement;
                }
                findings.push(Finding { object, problem, affected, repaired });
            }
            first_window += windows;
        }
        if !findings.is_empty() {
            match self.store.manifest(manifest.id).await {
                Ok(current) if current.value.version == manifest.version => {}
                // The findings are out of date: the document was deleted or put again during the check.
                Ok(_) | Err(Error::Missing { .. }) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            }
        }
        if findings.iter().any(|finding| finding.repaired) {
            manifest = match self.store.switch_manifest(&checked, manifest).await {
                Ok(Some(stored)) => stored.value,
                Ok(None) | Err(Error::Missing { .. }) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
        }
        self.referenced.extend(manifest.object_keys());
        Ok(findings)
    }

    /// Returns the fault of a shard; `None` if it is intact. Fails if the store cannot be read.
    async fn shard(&mut self, manifest: &Manifest, entry: &ShardEntry) -> Result<Option<Error>, Error> {
        if let Some(inline) = manifest.inline_shard(entry) {
            let key = key::manifest(manifest.id, manifest.version);
            return Ok(inline.and_then(|shard| check_windows(&shard, entry, &key)).err());
        }
        let Some(keys) = manifest.keys(entry) else { return Ok(None) };
        if let Some(fault) = self.shards.get(&keys) {
            return Ok(fault.clone());
        }
        let fault = match self.store.shard(&keys).await {
            Ok(shard) => check_windows(&shard, entry, &keys.latents).err(),
            Err(error @ (Error::Missing { .. } | Error::Damaged { .. })) => Some(error),
            Err(error) => return Err(error),
        };
        self.shards.insert(keys, fault.clone());
        Ok(fault)
    }

    /// Finds intact latents and corrections of the same shard under any version; `None` if there are none.
    async fn find_replacement(&self, manifest: &Manifest, entry: &ShardEntry) -> Result<Option<Placement>, Error> {
        let prefixes = manifest.key_prefixes(entry);
        let Some(latents) = self.store.usable_latents(&prefixes.latents).await? else { return Ok(None) };
        let corrections = match &prefixes.corrections {
            None => None,
            Some(prefix) => match self.store.usable_corrections(prefix, &latents).await? {
                Some(corrections) => Some(corrections),
                None => return Ok(None),
            },
        };
        let replacement = ShardEntry::in_objects(entry.hash, &latents, corrections.as_ref());
        Ok((replacement.window_bytes == entry.window_bytes).then_some(replacement.placement))
    }

    /// Checks an object, unless [`Self::shards`] has already checked it. Repair mode deletes a damaged object, but
    /// restores a damaged tombstone.
    async fn other(&mut self, folder: &str, key: &ObjectKey) -> Result<Option<Finding>, Error> {
        self.summary.objects += 1;
        if self.referenced.contains(key) {
            return Ok(None);
        }
        let problem = match self.store.objects.get(key).await {
            Ok(_) | Err(Error::Missing { .. }) => return Ok(None),
            Err(Error::Damaged { problem, .. }) => problem,
            Err(error) => return Err(error),
        };
        let repaired = self.mode == FsckMode::Repair;
        match (repaired, folder) {
            (false, _) => {}
            // Without its tombstone, a deleted document could reappear. The payload of every tombstone is empty.
            (true, DELETED) => self.store.objects.restore(key, b"").await?,
            (true, _) => self.store.objects.delete(key).await?,
        }
        Ok(Some(Finding { object: key.to_string(), problem, affected: None, repaired }))
    }
}

/// Reads the index of a pack. If the index is damaged, finds the records without it. Also returns the fault, if any.
fn read_index(ring: &Ring, key: &ObjectKey, pack: &Bytes) -> (Vec<Entry>, Option<String>) {
    let size = pack.len() as u64;
    let index = format::index_and_trailer(size, pack).and_then(|bytes| {
        let entries = format::index(ring, key, size, &pack.slice((size - bytes) as usize..))?;
        Ok((entries, size - bytes))
    });
    let length_matches = |entry: &Entry| {
        let (start, end) = (entry.range.start as usize, entry.range.end as usize);
        pack.get(start - 4..start) == Some(&((end - start) as u32).to_le_bytes())
    };
    match index {
        Ok((entries, index_start)) => {
            let sound = format::covers(&entries, index_start) && entries.iter().all(length_matches);
            (entries, (!sound).then(|| "its records do not match its index".to_owned()))
        }
        Err(problem) => (format::salvage(ring, pack), Some(problem)),
    }
}

/// Checks that the windows of a shard are as long as its manifest states.
fn check_windows(shard: &Shard, entry: &ShardEntry, key: &ObjectKey) -> Result<(), Error> {
    let windows = shard.windows.iter().map(|window| window.bytes.end - window.bytes.start);
    match windows.eq(entry.window_bytes.iter().copied()) {
        true => Ok(()),
        false => Err(Error::damaged(key, "its windows differ from those in the manifest")),
    }
}
