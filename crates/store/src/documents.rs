//! Documents: which version of one counts, wherever it lies.
//!
//! A version is a manifest, as an object by itself or as a record of a pack. The highest counts, unless a tombstone of
//! it or of a higher one is there. So a version may be moved or lie in two places, in any order and by any gateway, and
//! what was deleted stays so.

use std::collections::{BTreeMap, HashMap};

use c3_types::DocumentId;
use futures::{StreamExt, TryStreamExt, future, pin_mut, stream};
use object_store::path::Path;

use crate::manifest::{Inventory, LocatedVersion, Location, Manifest, ManifestCopy, Placement};
use crate::object::envelope::unseal;
use crate::object::key::{self, DELETED, DOCUMENTS, ObjectKey, ObjectKind, ShardKeys};
use crate::object::version::{Version, now_unix_ms};
use crate::object::{CONCURRENT_REQUESTS, PutOutcome};
use crate::pack::format::Record;
use crate::{Error, Store, Stored};

/// How often a document is looked for again where it was moved while it was read.
const TRIES: usize = 10;

/// What there is of a document.
struct Versions {
    objects: Vec<Version>,
    packed: Option<LocatedVersion>,
    deleted: Option<Version>,
}

impl Versions {
    fn newest(&self) -> Option<LocatedVersion> {
        let object =
            self.objects.last().map(|&version| LocatedVersion { version, location: Location::Object });
        let newest = object.into_iter().chain(self.packed.clone()).max_by_key(|found| found.version);
        newest.filter(|found| Some(found.version) > self.deleted)
    }

    fn highest(&self) -> Version {
        let packed = self.packed.as_ref().map(|found| found.version);
        let all = [self.objects.last().copied(), packed, self.deleted];
        all.into_iter().flatten().max().unwrap_or(Version::NONE)
    }
}

impl Store {
    /// A document's manifest. Missing where it is deleted or past its time.
    pub async fn manifest(&self, id: DocumentId) -> Result<Stored<Manifest>, Error> {
        for attempt in 0..TRIES {
            if attempt > 0 {
                self.packs.refresh().await?;
            }
            let found = self.newest(id).await?.ok_or_else(|| missing(id))?;
            match self.read_manifest(id, &found).await {
                // It was moved meanwhile, or deleted.
                Err(Error::Missing { .. }) => {}
                Ok(manifest) if manifest.value.is_expired(now_unix_ms()) => break,
                read => return read,
            }
        }
        Err(missing(id))
    }

    /// Reads a version of a document where it lies.
    pub async fn read_manifest(
        &self,
        id: DocumentId,
        found: &LocatedVersion,
    ) -> Result<Stored<Manifest>, Error> {
        let name = key::manifest(id, found.version);
        let (object, holder) = match &found.location {
            Location::Object => (self.objects.read(&name).await?, &name),
            Location::Pack { pack, range } => (self.objects.read_range(pack, range.clone()).await?, pack),
        };
        let bytes = object.len() as u64;
        let payload = unseal(ObjectKind::Manifest, &name, object);
        let payload = payload.map_err(|problem| Error::damaged(holder, problem))?;
        let value = Manifest::decode(payload).map_err(|invalid| Error::invalid(holder, &invalid))?;
        Ok(Stored { value, bytes })
    }

    /// Makes a document, or switches it to other objects at once, and gives its manifest back as it was stored. The
    /// version is chosen here. Fails where a sweep took an object that the manifest names.
    pub async fn put_manifest(&self, mut manifest: Manifest) -> Result<Stored<Manifest>, Error> {
        loop {
            self.packs.refresh().await?;
            let there = self.versions(manifest.id).await?;
            self.tombstone_expired(manifest.id, &there).await?;
            manifest.version = Version::after(there.highest());
            let record = Record::of(&manifest);
            let bytes = record.object.len() as u64;
            // Where another version lies by itself, this one must too: others would not look for it in new packs.
            let small =
                manifest.shards.iter().all(|shard| matches!(shard.placement, Placement::Inline { .. }));
            let written = match small && there.newest().is_none() {
                true => self.group.put(record).await?,
                false => self.objects.write(&key::manifest(record.id, record.version), record.object).await?,
            };
            if written == PutOutcome::AlreadyExists {
                continue;
            }
            self.check_objects(&manifest).await?;
            for &version in &there.objects {
                self.objects.delete(&key::manifest(manifest.id, version)).await?;
            }
            return Ok(Stored { value: manifest, bytes });
        }
    }

    /// Switches a document to other objects at once if `from` is still the version that counts: `None` where another is.
    /// Missing where it is deleted, also meanwhile and by another gateway.
    pub async fn switch_manifest(
        &self,
        from: &Manifest,
        to: Manifest,
    ) -> Result<Option<Stored<Manifest>>, Error> {
        if self.manifest(from.id).await?.value.version != from.version {
            return Ok(None);
        }
        let stored = self.put_manifest(to).await?;
        // Whoever deletes looks for new versions after the tombstone, so one of the two sees the other.
        if self.versions(from.id).await?.deleted >= Some(from.version) {
            self.write_tombstone(from.id, stored.value.version).await?;
            return Err(missing(from.id));
        }
        Ok(Some(stored))
    }

    /// Makes a document that is past its time unreadable for good: what told of it must not tell of the next one.
    async fn tombstone_expired(&self, id: DocumentId, there: &Versions) -> Result<(), Error> {
        let Some(newest) = there.newest() else { return Ok(()) };
        match self.read_manifest(id, &newest).await {
            Ok(found) if found.value.is_expired(now_unix_ms()) => {
                self.write_tombstone(id, newest.version).await
            }
            Ok(_) | Err(Error::Missing { .. } | Error::Damaged { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// That what the new manifest names is there and will stay. Else the manifest is taken back.
    async fn check_objects(&self, manifest: &Manifest) -> Result<(), Error> {
        let names = Vec::from_iter(manifest.shards.iter().filter_map(|shard| manifest.names(shard)));
        let names = Vec::from_iter(names.iter().flat_map(ShardKeys::all).cloned());
        let looks = stream::iter(names).map(|name| async move {
            let lost = self.is_lost(&name).await?;
            Ok::<_, Error>(lost.then_some(name))
        });
        let mut looks = looks.buffer_unordered(CONCURRENT_REQUESTS);
        while let Some(lost) = looks.try_next().await? {
            if let Some(name) = lost {
                self.objects.delete(&key::manifest(manifest.id, manifest.version)).await?;
                return Err(Error::Collected { object: name.to_string() });
            }
        }
        Ok(())
    }

    /// Whether an object is gone or about to go.
    async fn is_lost(&self, name: &ObjectKey) -> Result<bool, Error> {
        match self.objects.size(name).await {
            Err(Error::Missing { .. }) => Ok(true),
            Err(error) => Err(error),
            Ok(_) => self.pending_deletes.names(name).await,
        }
    }

    /// Removes a document: it is not found any more when this returns. Missing where there is none.
    pub async fn delete(&self, id: DocumentId) -> Result<(), Error> {
        self.packs.refresh().await?;
        match self.manifest(id).await {
            // What cannot be read can be deleted.
            Ok(_) | Err(Error::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut newest = Some(self.versions(id).await?.newest().ok_or_else(|| missing(id))?);
        // A recode may have switched to a new version meanwhile: it goes too.
        while let Some(found) = newest {
            self.write_tombstone(id, found.version).await?;
            self.packs.refresh().await?;
            let there = self.versions(id).await?;
            newest = there.newest();
            for version in there.objects.into_iter().filter(|&version| version <= found.version) {
                self.objects.delete(&key::manifest(id, version)).await?;
            }
        }
        Ok(())
    }

    /// Makes all versions up to this one unreadable.
    pub async fn write_tombstone(&self, id: DocumentId, version: Version) -> Result<(), Error> {
        self.objects.put(ObjectKind::Tombstone, &key::tombstone(id, version), b"").await.map(drop)
    }

    /// The first `most` documents whose id begins with these digits and comes after `after`, by id.
    pub async fn documents(
        &self,
        prefix: &str,
        after: Option<DocumentId>,
        most: usize,
    ) -> Result<BTreeMap<DocumentId, LocatedVersion>, Error> {
        let wanted = |id: DocumentId| Some(id) > after && id.to_string().starts_with(prefix);
        // Objects before packs, and packs before tombstones: what is moved or deleted meanwhile is found so.
        let objects = self.newest_below(DOCUMENTS, prefix).await?;
        self.packs.refresh().await?;
        let deleted = self.newest_below(DELETED, prefix).await?;
        let mut all = BTreeMap::new();
        let objects = objects
            .into_iter()
            .map(|(id, version)| (id, LocatedVersion { version, location: Location::Object }));
        for (id, found) in objects.filter(|(id, _)| wanted(*id)) {
            all.insert(id, found);
        }
        for pack in self.packs.known() {
            for entry in pack.entries.iter().filter(|entry| wanted(entry.id)) {
                let location = Location::Pack { pack: pack.name.clone(), range: entry.range.clone() };
                let found = LocatedVersion { version: entry.version, location };
                let newest = all.entry(entry.id).or_insert_with(|| found.clone());
                if newest.version < found.version {
                    *newest = found;
                }
            }
        }
        all.retain(|id, found| deleted.get(id).is_none_or(|&deleted| deleted < found.version));
        Ok(all.into_iter().take(most).collect())
    }

    /// The highest stamp of each document in a folder.
    pub async fn newest_below(
        &self,
        folder: &str,
        prefix: &str,
    ) -> Result<HashMap<DocumentId, Version>, Error> {
        let folder = key::narrowest(folder, prefix);
        let objects = self.objects.list(&folder, &folder);
        pin_mut!(objects);
        let mut newest = HashMap::new();
        while let Some(object) = objects.try_next().await? {
            if let Some((id, stamp)) = key::document_at(&object.location) {
                let highest = newest.entry(id).or_insert(stamp);
                *highest = stamp.max(*highest);
            }
        }
        Ok(newest)
    }

    /// Finds all that is there of documents. Objects come before packs, so that what is moved meanwhile is found.
    pub async fn inventory(&self) -> Result<Inventory, Error> {
        let folder = Path::from(DOCUMENTS);
        let objects: Vec<_> = self.objects.list(&folder, &folder).try_collect().await?;
        self.packs.refresh().await?;
        let deleted = self.newest_below(DELETED, "").await?;
        let mut copies = Vec::from_iter(objects.into_iter().filter_map(|object| {
            let (id, version) = key::document_at(&object.location)?;
            Some(ManifestCopy {
                id,
                found: LocatedVersion { version, location: Location::Object },
                object: Some(object),
            })
        }));
        for pack in self.packs.known() {
            copies.extend(pack.entries.iter().map(|entry| {
                let location = Location::Pack { pack: pack.name.clone(), range: entry.range.clone() };
                ManifestCopy {
                    id: entry.id,
                    found: LocatedVersion { version: entry.version, location },
                    object: None,
                }
            }));
        }
        copies.sort_by_key(|copy| (copy.id, copy.found.version));
        Ok(Inventory { copies, deleted })
    }

    /// Whether a version of a document counts, also one that is past its time.
    pub async fn has(&self, id: DocumentId) -> Result<bool, Error> {
        Ok(self.newest(id).await?.is_some())
    }

    /// The version of a document that counts.
    async fn newest(&self, id: DocumentId) -> Result<Option<LocatedVersion>, Error> {
        let found = self.versions(id).await?.newest();
        if found.is_some() {
            return Ok(found);
        }
        // Another gateway may have put it into a pack, or moved it there.
        self.packs.refresh().await?;
        Ok(self.versions(id).await?.newest())
    }

    async fn versions(&self, id: DocumentId) -> Result<Versions, Error> {
        let (documents, tombstones) = (key::of_document(DOCUMENTS, id), key::of_document(DELETED, id));
        let objects = self.objects.generations(&documents);
        let deleted = self.objects.generations(&tombstones);
        let (objects, deleted) = future::try_join(objects, deleted).await?;
        let packed = self.packs.newest(id).map(|(pack, entry)| LocatedVersion {
            version: entry.version,
            location: Location::Pack { pack: pack.name.clone(), range: entry.range },
        });
        Ok(Versions {
            objects: objects.iter().map(|name| name.split_version().1).collect(),
            packed,
            deleted: deleted.last().map(|name| name.split_version().1),
        })
    }
}

fn missing(id: DocumentId) -> Error {
    Error::Missing { object: key::manifest(id, Version::NONE).to_string() }
}
