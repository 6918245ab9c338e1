//! Documents: finds, writes, deletes and lists the current versions of documents.
//!
//! A version is a manifest, in an object of its own or in a record of a pack. The highest version is current unless a
//! tombstone of the same or a higher version exists. Any gateway may therefore copy a version to a pack and remove the
//! original later: two copies do no harm, and a deleted document stays deleted.

use std::collections::{BTreeMap, HashMap};

use c3_types::DocumentId;
use futures::{StreamExt, TryStreamExt, future, pin_mut, stream};
use object_store::path::Path;

use crate::manifest::{Inventory, LocatedVersion, Location, Manifest, ManifestCopy, Placement};
use crate::object::envelope::unseal;
use crate::object::key::{self, DELETED, DOCUMENTS};
use crate::object::version::{Version, now_unix_ms};
use crate::object::{CONCURRENT_REQUESTS, PutOutcome, Space};
use crate::pack::format::{Entry, Record};
use crate::pack::index::Pack;
use crate::{Error, Store, StoredObject};

/// Maximum attempts to read a manifest that is moved between its lookup and its read.
const READ_ATTEMPTS_MAX: usize = 10;

/// Versions of a document, of which one may be current.
struct Versions {
    /// Versions that are objects of their own, in ascending order.
    objects: Vec<Version>,
    /// Highest version in any pack.
    packed: Option<LocatedVersion>,
    /// Highest tombstone.
    deleted: Option<Version>,
}

impl Versions {
    fn current(&self) -> Option<LocatedVersion> {
        let object = self.objects.last().map(|&version| LocatedVersion { version, location: Location::Object });
        let newest = object.into_iter().chain(self.packed.clone()).max_by_key(|located| located.version);
        newest.filter(|located| Some(located.version) > self.deleted)
    }

    fn highest(&self) -> Version {
        let packed = self.packed.as_ref().map(|located| located.version);
        let all = [self.objects.last().copied(), packed, self.deleted];
        all.into_iter().flatten().max().unwrap_or(Version::NONE)
    }
}

impl Store {
    /// Returns the current manifest. Fails with [`Error::Missing`] if the document does not exist or has expired.
    pub async fn manifest(&self, id: DocumentId) -> Result<StoredObject<Manifest>, Error> {
        for attempt in 0..READ_ATTEMPTS_MAX {
            if attempt > 0 {
                self.packs.refresh().await?;
            }
            let located = self.current_version(id).await?.ok_or_else(|| missing(id))?;
            match self.read_manifest(id, &located).await {
                // The version was moved or deleted after its lookup.
                Err(Error::Missing { .. }) => {}
                Ok(manifest) if manifest.value.is_expired(now_unix_ms()) => break,
                read => return read,
            }
        }
        Err(missing(id))
    }

    /// Reads a version at a known location. Does not check whether it is current or has expired.
    pub async fn read_manifest(
        &self,
        id: DocumentId,
        located: &LocatedVersion,
    ) -> Result<StoredObject<Manifest>, Error> {
        let key = key::manifest(id, located.version);
        let (object, holder) = match &located.location {
            Location::Object => (self.objects.read(&key).await?, &key),
            Location::Pack { pack, range } => (self.objects.read_range(pack, range.clone()).await?, pack),
        };
        let bytes = object.len() as u64;
        let payload = unseal(&key, object);
        let payload = payload.map_err(|problem| Error::damaged(holder, problem))?;
        let value = Manifest::decode(payload).map_err(|invalid| Error::invalid(holder, &invalid))?;
        Ok(StoredObject { value, bytes })
    }

    /// Stores a manifest under a new version, which replaces `manifest.version`, and deletes older manifest objects.
    /// Fails with [`Error::Collected`] if garbage collection removed, or will remove, an object of the manifest.
    pub async fn put_manifest(&self, mut manifest: Manifest) -> Result<StoredObject<Manifest>, Error> {
        loop {
            self.packs.refresh().await?;
            let existing = self.versions(manifest.id).await?;
            self.tombstone_expired(manifest.id, &existing).await?;
            manifest.version = Version::after(existing.highest());
            let record = Record::new(&manifest);
            let bytes = record.object.len() as u64;
            // A newer version never goes into a pack: gateways that know an older one would not look for it there.
            let small = manifest.shards.iter().all(|shard| matches!(shard.placement, Placement::Inline { .. }));
            let written = match small && existing.current().is_none() {
                true => self.group_commit.put(record).await?,
                false => {
                    let key = key::manifest(record.id, record.version);
                    self.objects.write(&key, record.object, Space::Free).await?
                }
            };
            if written == PutOutcome::AlreadyExists {
                continue;
            }
            self.check_objects(&manifest).await?;
            for &version in &existing.objects {
                self.objects.delete(&key::manifest(manifest.id, version)).await?;
            }
            return Ok(StoredObject { value: manifest, bytes });
        }
    }

    /// Stores `to` if `from` is the current version when the call begins; else returns `None`. Fails with
    /// [`Error::Missing`] if the document has expired or was deleted, even by another gateway during the call.
    pub async fn switch_manifest(
        &self,
        from: &Manifest,
        to: Manifest,
    ) -> Result<Option<StoredObject<Manifest>>, Error> {
        if self.manifest(from.id).await?.value.version != from.version {
            return Ok(None);
        }
        let stored = self.put_manifest(to).await?;
        // A concurrent delete looks for versions after it wrote its tombstone, so it finds this version if this call
        // does not find the tombstone.
        if self.versions(from.id).await?.deleted >= Some(from.version) {
            self.write_tombstone(from.id, stored.value.version).await?;
            return Err(missing(from.id));
        }
        Ok(Some(stored))
    }

    /// Writes a tombstone if the document has expired, so that its names and labels do not apply to the next version.
    async fn tombstone_expired(&self, id: DocumentId, existing: &Versions) -> Result<(), Error> {
        let Some(current) = existing.current() else { return Ok(()) };
        match self.read_manifest(id, &current).await {
            Ok(manifest) if manifest.value.is_expired(now_unix_ms()) => self.write_tombstone(id, current.version).await,
            Ok(_) | Err(Error::Missing { .. } | Error::Damaged { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Fails, and deletes the manifest, if an object of this durable manifest is missing or pending deletion.
    ///
    /// If this succeeds, no sweep removes the objects later: a pending-delete list from after the snapshot is executed
    /// only after a mark phase that sees the manifest. An older list is in the snapshot, or its objects are missing.
    async fn check_objects(&self, manifest: &Manifest) -> Result<(), Error> {
        let keys = Vec::from_iter(manifest.object_keys());
        if keys.is_empty() {
            return Ok(());
        }
        let pending = &self.pending_deletes.load().await?;
        let checks = stream::iter(keys).map(|key| async move {
            let lost = pending.contains(&key) || !self.objects.exists(&key).await?;
            Ok::<_, Error>(lost.then_some(key))
        });
        let mut checks = checks.buffer_unordered(CONCURRENT_REQUESTS);
        while let Some(lost) = checks.try_next().await? {
            if let Some(key) = lost {
                self.objects.delete(&key::manifest(manifest.id, manifest.version)).await?;
                return Err(Error::Collected { object: key.to_string() });
            }
        }
        Ok(())
    }

    /// Deletes a document for all gateways. Fails with [`Error::Missing`] if it does not exist or has expired.
    pub async fn delete(&self, id: DocumentId) -> Result<(), Error> {
        self.packs.refresh().await?;
        match self.manifest(id).await {
            // A document can be deleted even if its manifest is damaged.
            Ok(_) | Err(Error::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut newest = Some(self.versions(id).await?.current().ok_or_else(|| missing(id))?);
        // Repeats because a concurrent recode may have written a new version.
        while let Some(located) = newest {
            self.write_tombstone(id, located.version).await?;
            self.packs.refresh().await?;
            let remaining = self.versions(id).await?;
            newest = remaining.current();
            for version in remaining.objects.into_iter().filter(|&version| version <= located.version) {
                self.objects.delete(&key::manifest(id, version)).await?;
            }
        }
        Ok(())
    }

    /// Writes a tombstone, which deletes `version` and all lower ones.
    pub(crate) async fn write_tombstone(&self, id: DocumentId, version: Version) -> Result<(), Error> {
        self.objects.put(&key::tombstone(id, version), b"", Space::Reserve).await.map(drop)
    }

    /// Returns the current versions of documents, expired or not, whose id begins with `prefix` and is above `after`:
    /// the first `limit` in id order.
    pub async fn documents(
        &self,
        prefix: &str,
        after: Option<DocumentId>,
        limit: usize,
    ) -> Result<BTreeMap<DocumentId, LocatedVersion>, Error> {
        let matches = |id: DocumentId| Some(id) > after && id.to_string().starts_with(prefix);
        // Lists packs after objects, to find versions that move, and tombstones last, to leave out concurrent deletes.
        let objects = self.newest_versions(DOCUMENTS, prefix).await?;
        self.packs.refresh().await?;
        let deleted = self.newest_versions(DELETED, prefix).await?;
        let objects = objects.into_iter().filter(|(id, _)| matches(*id));
        let mut all: BTreeMap<_, _> =
            objects.map(|(id, version)| (id, LocatedVersion { version, location: Location::Object })).collect();
        for pack in self.packs.all() {
            for entry in pack.entries.iter().filter(|entry| matches(entry.id)) {
                let located = packed(&pack, entry);
                let newest = all.entry(entry.id).or_insert_with(|| located.clone());
                if newest.version < located.version {
                    *newest = located;
                }
            }
        }
        all.retain(|id, located| deleted.get(id).is_none_or(|&deleted| deleted < located.version));
        Ok(all.into_iter().take(limit).collect())
    }

    /// Returns the highest version of each document in `folder`. May include ids that do not begin with `prefix`.
    pub async fn newest_versions(&self, folder: &str, prefix: &str) -> Result<HashMap<DocumentId, Version>, Error> {
        let folder = key::narrowest_folder(folder, prefix);
        let objects = self.objects.list(&folder, &folder);
        pin_mut!(objects);
        let mut newest = HashMap::new();
        while let Some(object) = objects.try_next().await? {
            if let Some((id, version)) = key::parse_document(&object.location) {
                let highest = newest.entry(id).or_insert(version);
                *highest = version.max(*highest);
            }
        }
        Ok(newest)
    }

    /// Lists all copies of all manifests. Packs are listed after objects to find versions that are moved meanwhile.
    pub(crate) async fn inventory(&self) -> Result<Inventory, Error> {
        let folder = Path::from(DOCUMENTS);
        let objects: Vec<_> = self.objects.list(&folder, &folder).try_collect().await?;
        self.packs.refresh().await?;
        let deleted = self.newest_versions(DELETED, "").await?;
        let mut copies = Vec::from_iter(objects.into_iter().filter_map(|object| {
            let (id, version) = key::parse_document(&object.location)?;
            let located = LocatedVersion { version, location: Location::Object };
            Some(ManifestCopy { id, located, object: Some(object) })
        }));
        for pack in self.packs.all() {
            copies.extend(pack.entries.iter().map(|entry| ManifestCopy {
                id: entry.id,
                located: packed(&pack, entry),
                object: None,
            }));
        }
        copies.sort_by_key(|copy| (copy.id, copy.located.version));
        Ok(Inventory { copies, deleted })
    }

    /// Returns whether a document has a current version, expired or not.
    pub(crate) async fn has_document(&self, id: DocumentId) -> Result<bool, Error> {
        Ok(self.current_version(id).await?.is_some())
    }

    async fn current_version(&self, id: DocumentId) -> Result<Option<LocatedVersion>, Error> {
        let current = self.versions(id).await?.current();
        if current.is_some() {
            return Ok(current);
        }
        // Another gateway may have put the document into a pack, or moved it, after this gateway last listed the packs.
        self.packs.refresh().await?;
        Ok(self.versions(id).await?.current())
    }

    async fn versions(&self, id: DocumentId) -> Result<Versions, Error> {
        let (documents, tombstones) = (key::document_prefix(DOCUMENTS, id), key::document_prefix(DELETED, id));
        let objects = self.objects.versions(&documents);
        let deleted = self.objects.versions(&tombstones);
        let (objects, deleted) = future::try_join(objects, deleted).await?;
        Ok(Versions {
            objects: objects.iter().map(|key| key.split_version().1).collect(),
            packed: self.packs.newest(id).map(|(pack, entry)| packed(&pack, &entry)),
            deleted: deleted.last().map(|key| key.split_version().1),
        })
    }
}

fn packed(pack: &Pack, entry: &Entry) -> LocatedVersion {
    let location = Location::Pack { pack: pack.key.clone(), range: entry.range.clone() };
    LocatedVersion { version: entry.version, location }
}

fn missing(id: DocumentId) -> Error {
    Error::Missing { object: key::manifest(id, Version::NONE).to_string() }
}
