//! The check: reads every object, tells which documents and windows a fault affected, and repairs what can be rebuilt
//! from what is left.

use std::collections::{HashMap, HashSet};

use async_stream::try_stream;
use futures::{Stream, TryStreamExt};
use object_store::path::Path;

use crate::manifest::{Inventory, ManifestCopy};
use crate::manifest::{Manifest, Placement, ShardEntry};
use crate::object::key::{
    self, CORRECTIONS, DELETED, LATENTS, ObjectKey, ObjectKind, PACKS, PENDING_DELETES, UPLOADS,
};
use crate::pack::format::{self, Entry, Record};
use crate::register::maintenance::REGISTERS;
use crate::{Error, Shard, Store};
use c3_types::{AffectedWindows, Finding, FsckEvent, FsckMode, FsckSummary};

/// What a check knows so far.
struct Check<'a> {
    store: &'a Store,
    faults: FsckMode,
    counts: FsckSummary,
    /// Objects that documents refer to.
    referenced: HashSet<ObjectKey>,
    /// What is wrong with shards' objects, by the latents' name and the corrections'.
    shards: HashMap<key::ShardKeys, Option<Error>>,
}

/// Reads every object and tells what is wrong.
pub fn check(store: &Store, faults: FsckMode) -> impl Stream<Item = Result<FsckEvent, Error>> + Send {
    try_stream! {
        let mut check =
            Check { store, faults, counts: FsckSummary::default(), referenced: HashSet::new(), shards: HashMap::new() };
        for pack in check.listed(PACKS).await? {
            for finding in check.pack(&pack).await? {
                yield FsckEvent::Finding(finding);
            }
        }
        let inventory = store.inventory().await?;
        let highest = inventory.highest();
        for copy in &inventory.copies {
            let counts = inventory.counts(copy, &highest);
            for finding in check.document(copy, &inventory, counts).await? {
                yield FsckEvent::Finding(finding);
            }
        }
        for folder in [LATENTS, CORRECTIONS, DELETED, PENDING_DELETES, UPLOADS] {
            for name in check.listed(folder).await? {
                if let Some(finding) = check.other(&name).await? {
                    yield FsckEvent::Finding(finding);
                }
            }
        }
        for (kind, folder) in REGISTERS {
            for generations in store.registers(&Path::from(folder)).await?.into_values() {
                check.counts.objects += generations.len() as u64;
                if let Some(finding) = store.fsck_register(kind, &generations, faults).await? {
                    yield FsckEvent::Finding(finding);
                }
            }
        }
        yield FsckEvent::Done(check.counts);
    }
}

impl Check<'_> {
    async fn listed(&self, folder: &str) -> Result<Vec<ObjectKey>, Error> {
        let folder = Path::from(folder);
        let objects = self.store.objects.list(&folder, &folder);
        objects.map_ok(|object| ObjectKey::at(object.location)).try_collect().await
    }

    /// A pack: its index and what lies between its records. Its manifests are checked as those of documents.
    async fn pack(&mut self, name: &ObjectKey) -> Result<Vec<Finding>, Error> {
        let whole = match self.store.objects.read(name).await {
            Err(Error::Missing { .. }) => return Ok(Vec::new()),
            whole => whole?,
        };
        self.counts.objects += 1;
        let size = whole.len() as u64;
        let index = format::index_and_trailer(size, &whole).and_then(|bytes| {
            let entries = format::index(name, size, &whole.slice((size - bytes) as usize..))?;
            Ok((entries, size - bytes))
        });
        let lengths_hold = |entry: &Entry| {
            let (start, end) = (entry.range.start as usize, entry.range.end as usize);
            whole.get(start - 4..start) == Some(&((end - start) as u32).to_le_bytes())
        };
        let (entries, problem) = match index {
            Ok((entries, index_start)) => {
                let sound = format::covers(&entries, index_start) && entries.iter().all(lengths_hold);
                (entries, (!sound).then(|| "its records are not where they should be".to_owned()))
            }
            Err(problem) => (format::salvage(&whole), Some(problem)),
        };
        let mut bad = Vec::new();
        let mut records = Vec::new();
        for entry in &entries {
            let object = whole.slice(entry.range.start as usize..entry.range.end as usize);
            let own = key::manifest(entry.id, entry.version);
            match crate::object::envelope::unseal(ObjectKind::Manifest, &own, object.clone()) {
                Ok(_) => records.push(Record { id: entry.id, version: entry.version, object }),
                Err(_) => bad.push(entry),
            }
        }
        if problem.is_none() && bad.is_empty() {
            return Ok(Vec::new());
        }
        let expendable = self.all_expendable(name, &bad).await?;
        let repaired = self.faults == FsckMode::Repair && expendable && self.is_whole(&whole, &entries);
        if repaired {
            if !records.is_empty() {
                self.store.packs.put(records).await?;
            }
            self.store.objects.delete(name).await?;
            self.store.packs.refresh().await?;
        }
        let finding =
            |problem: String| Finding { object: name.to_string(), problem, affected: None, repaired };
        let mut findings = Vec::from_iter(problem.map(finding));
        // A record that counts is told of with its document; one that does not is nobody's.
        if expendable && !bad.is_empty() {
            findings.push(finding("a record that does not count any more is damaged".to_owned()));
        }
        Ok(findings)
    }

    /// Whether the records that were found are all that the pack has before its index.
    fn is_whole(&self, pack: &bytes::Bytes, entries: &[Entry]) -> bool {
        let ends = entries.iter().map(|entry| entry.range.end).max().unwrap_or(0) as usize;
        // What follows is an index and its length, no further record.
        let rest = pack.len().saturating_sub(ends);
        let index =
            crate::object::envelope::PAYLOAD_AT + entries.len() * format::ENTRY_BYTES + format::TRAILER_BYTES;
        rest == index
    }

    async fn all_expendable(&self, pack: &ObjectKey, bad: &[&Entry]) -> Result<bool, Error> {
        let inventory = self.store.inventory().await?;
        for entry in bad {
            let here = crate::manifest::Location::Pack { pack: pack.clone(), range: entry.range.clone() };
            let found = crate::manifest::LocatedVersion { version: entry.version, location: here };
            let copy = ManifestCopy { id: entry.id, found, object: None };
            if !self.is_expendable(&copy, &inventory).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a damaged manifest is not needed: deleted, or there is a sound one of the same or a later version.
    async fn is_expendable(&self, copy: &ManifestCopy, inventory: &Inventory) -> bool {
        let version = copy.found.version;
        if inventory.deleted.get(&copy.id).is_some_and(|&deleted| deleted >= version) {
            return true;
        }
        for other in inventory.of(copy.id) {
            let may = other.found.version >= version && other.found != copy.found;
            if may && self.store.read_manifest(other.id, &other.found).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// A manifest and, where it counts, all that it refers to.
    async fn document(
        &mut self,
        copy: &ManifestCopy,
        inventory: &Inventory,
        counts: bool,
    ) -> Result<Vec<Finding>, Error> {
        self.counts.objects += u64::from(copy.object.is_some());
        self.counts.documents += u64::from(counts);
        let manifest = match self.store.read_manifest(copy.id, &copy.found).await {
            Ok(found) => found.value,
            Err(Error::Missing { .. }) => return Ok(Vec::new()),
            Err(Error::Damaged { object, problem }) => {
                let expendable = self.is_expendable(copy, inventory).await;
                if copy.object.is_none() && expendable {
                    return Ok(Vec::new());
                }
                let repaired = copy.object.is_some() && expendable && self.faults == FsckMode::Repair;
                if repaired {
                    self.store.objects.delete(&key::manifest(copy.id, copy.found.version)).await?;
                }
                let affected = Some(AffectedWindows { document: copy.id, first_window: 0, windows: 0 });
                return Ok(vec![Finding { object, problem, affected, repaired }]);
            }
            Err(error) => return Err(error),
        };
        match counts {
            true => self.shards(manifest).await,
            false => Ok(Vec::new()),
        }
    }

    async fn shards(&mut self, mut manifest: Manifest) -> Result<Vec<Finding>, Error> {
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
                let place = match self.faults {
                    FsckMode::Repair => self.other_place(&manifest, entry).await?,
                    FsckMode::Report => None,
                };
                let repaired = place.is_some();
                if let Some(place) = place {
                    manifest.shards[number].placement = place;
                }
                findings.push(Finding { object, problem, affected, repaired });
            }
            first_window += windows;
        }
        if findings.is_empty() {
            self.refer(&manifest);
            return Ok(findings);
        }
        match self.store.manifest(manifest.id).await {
            Ok(now) if now.value.version == manifest.version => {}
            // It was deleted or put again meanwhile: nothing of this matters any more.
            Ok(_) | Err(Error::Missing { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
        if findings.iter().any(|finding| finding.repaired) {
            manifest = self.store.put_manifest(manifest).await?.value;
        }
        self.refer(&manifest);
        Ok(findings)
    }

    fn refer(&mut self, manifest: &Manifest) {
        for names in manifest.shards.iter().filter_map(|entry| manifest.names(entry)) {
            self.referenced.extend(names.all().cloned());
        }
    }

    /// What is wrong with a shard of a document.
    async fn shard(&mut self, manifest: &Manifest, entry: &ShardEntry) -> Result<Option<Error>, Error> {
        if let Some(inline) = manifest.inline_shard(entry) {
            return Ok(inline
                .and_then(|shard| fits(&shard, entry, &key::manifest(manifest.id, manifest.version)))
                .err());
        }
        let Some(names) = manifest.names(entry) else { return Ok(None) };
        if let Some(known) = self.shards.get(&names) {
            return Ok(known.clone());
        }
        let found = match self.store.shard(&names).await {
            Ok(shard) => fits(&shard, entry, &names.latents).err(),
            Err(error @ (Error::Missing { .. } | Error::Damaged { .. })) => Some(error),
            Err(error) => return Err(error),
        };
        self.shards.insert(names, found.clone());
        Ok(found)
    }

    /// Sound objects of the same shard in other generations.
    async fn other_place(&self, manifest: &Manifest, entry: &ShardEntry) -> Result<Option<Placement>, Error> {
        let families = manifest.key_prefixes(entry);
        let Some((latents, stored)) = self.store.usable_latents(&families.latents).await? else {
            return Ok(None);
        };
        let corrections = match &families.corrections {
            None => None,
            Some(family) => match self.store.usable_corrections(family, &stored).await? {
                Some((generation, of)) => Some((generation, of.value.windows)),
                None => return Ok(None),
            },
        };
        let (corrections, windows) = corrections.unzip();
        let shard = Shard::new(stored.value, windows);
        let place = Placement::Objects { latents, corrections: corrections.unwrap_or_default() };
        Ok(fits(&shard, entry, &families.latents.at(latents)).is_ok().then_some(place))
    }

    /// What no document told of: objects that nothing refers to, tombstones, condemned lists and records of puts.
    async fn other(&mut self, name: &ObjectKey) -> Result<Option<Finding>, Error> {
        let kind = match name.folder() {
            LATENTS => ObjectKind::Latents,
            CORRECTIONS => ObjectKind::Corrections,
            DELETED => ObjectKind::Tombstone,
            UPLOADS => ObjectKind::Upload,
            _ => ObjectKind::PendingDeletes,
        };
        self.counts.objects += 1;
        if self.referenced.contains(name) {
            return Ok(None);
        }
        let problem = match self.store.objects.get(kind, name).await {
            Ok(_) | Err(Error::Missing { .. }) => return Ok(None),
            Err(Error::Damaged { problem, .. }) => problem,
            Err(error) => return Err(error),
        };
        let repaired = self.faults == FsckMode::Repair;
        match (repaired, kind) {
            (false, _) => {}
            // That it is there is all that it says, and it must not be missing for a moment.
            (true, ObjectKind::Tombstone) => self.store.objects.mend(kind, name, b"").await?,
            (true, _) => self.store.objects.delete(name).await?,
        }
        Ok(Some(Finding { object: name.to_string(), problem, affected: None, repaired }))
    }
}

/// That a shard has the windows that the manifest says.
fn fits(shard: &Shard, entry: &ShardEntry, name: &ObjectKey) -> Result<(), Error> {
    let windows = shard.windows.iter().map(|window| window.bytes.end - window.bytes.start);
    match windows.eq(entry.window_bytes.iter().copied()) {
        true => Ok(()),
        false => Err(Error::damaged(name, "it holds other windows than the manifest says")),
    }
}
