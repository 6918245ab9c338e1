//! Documents: finds, writes and deletes the current versions of documents.
//!
//! A version is a manifest, in an object of its own or in a record of a pack, which is an object for many manifests.
//! The highest version is current unless a tombstone of the same or a higher version exists. Any gateway may therefore
//! copy a version to a pack and remove the original later: two copies do no harm, and a deleted document stays deleted.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

use c3_types::DocumentId;
use futures::{StreamExt, TryStreamExt, future, stream};
use object_store::path::Path;

use crate::document_list::IdRange;
use crate::manifest::{Inventory, LocatedVersion, Location, Manifest, ManifestCopy, Placement};
use crate::object::envelope::unseal;
use crate::object::key::{self, DELETED, DOCUMENTS};
use crate::object::version::{Version, now_unix_ms};
use crate::object::{CONCURRENT_REQUESTS, PutOutcome, Space};
use crate::pack::format::Record;
use crate::{Error, Store, StoredObject};

/// Maximum attempts to read a manifest that is moved between its lookup and its read.
const READ_ATTEMPTS_MAX: usize = 10;

/// Versions of a document. At most one is current.
struct Versions {
    /// Location of each version. A version that is both an object and in a pack counts as an object.
    copies: BTreeMap<Version, Location>,
    /// Highest version that a tombstone deletes.
    deleted: Option<Version>,
}

impl Versions {
    /// Iterates over the versions that no tombstone deletes, lowest first.
    fn live(&self) -> impl DoubleEndedIterator<Item = LocatedVersion> {
        let live = self.copies.iter().filter(|(version, _)| Some(**version) > self.deleted);
        live.map(|(&version, location)| LocatedVersion { version, location: location.clone() })
    }

    fn current(&self) -> Option<LocatedVersion> {
        self.live().next_back()
    }

    fn highest(&self) -> Version {
        self.copies.keys().next_back().copied().max(self.deleted).unwrap_or(Version::NONE)
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
        let payload = unseal(&key, self.objects.decrypt(holder, object).await?);
        let payload = payload.map_err(|problem| Error::damaged(holder, problem))?;
        let value = Manifest::decode(payload).map_err(|invalid| Error::invalid(holder, &invalid))?;
        Ok(StoredObject { value, bytes })
    }

    /// Stores a manifest under a new version and deletes the older manifest objects. A put never weakens a document:
    /// the stored manifest, which is returned, also gives the guarantees of the version that was current, and of
    /// concurrent puts ([`Manifest::merged_with`]). Fails with [`Error::Collected`] if garbage collection removed, or
    /// will remove, an object of the manifest.
    pub async fn put_manifest(&self, manifest: Manifest) -> Result<StoredObject<Manifest>, Error> {
        let id = manifest.id;
        let (mut known, base) = self.merge_base(&manifest).await?;
        let mut merged = Vec::from_iter(base);
        loop {
            let next = manifest.merged_with(&merged);
            let own = self.write_version(next, &known).await?;
            let version = own.value.version;
            // Two concurrent puts cannot both miss each other: the put that writes last finds the version of the other
            // one here.
            let (now, rivals) = self.read_versions(id, |now| rivals(now, &known, version)).await?;
            merged.retain(|stored| Some(stored.value.version) > now.deleted);
            merged.extend(rivals.iter().cloned());
            let newest = rivals.into_iter().chain([own]).max_by_key(|stored| stored.value.version).expect("has `own`");
            let is_deleted = Some(newest.value.version) <= now.deleted;
            if !is_deleted && newest.value.guarantees() == manifest.merged_with(&merged).guarantees() {
                self.delete_objects(id, &now, ..newest.value.version).await?;
                return Ok(newest);
            }
            known = now;
        }
    }

    /// Replaces the version `from` of a document with `to`, which may give weaker guarantees. Returns `None`, and
    /// changes nothing, if `from` is not the current version, or if another version is written meanwhile. Fails with
    /// [`Error::Missing`] if the document has expired or was deleted, even by another gateway during the call.
    pub async fn switch_manifest(
        &self,
        from: &Manifest,
        to: Manifest,
    ) -> Result<Option<StoredObject<Manifest>>, Error> {
        let known = self.latest_versions(from.id).await?;
        let current = known.current().filter(|_| !from.is_expired(now_unix_ms())).ok_or_else(|| missing(from.id))?;
        if current.version != from.version {
            return Ok(None);
        }
        let stored = self.write_version(to, &known).await?;
        let version = stored.value.version;
        let now = self.latest_versions(from.id).await?;
        if !rivals(&now, &known, version).is_empty() {
            self.objects.delete(&key::manifest(from.id, version)).await?;
            return Ok(None);
        }
        // A concurrent delete looks for versions after it wrote its tombstone. So if this call does not find the
        // tombstone, the delete finds the version that this call wrote.
        if now.deleted >= Some(from.version) {
            self.write_tombstone(from.id, version).await?;
            return Err(missing(from.id));
        }
        self.delete_objects(from.id, &now, ..version).await?;
        Ok(Some(stored))
    }

    /// Returns the versions of a document, and the current one if the document exists. A put of `manifest` must keep
    /// the guarantees of that version. If the document has expired, writes a tombstone, so that names and labels of the
    /// expired document do not apply to the new version.
    async fn merge_base(&self, manifest: &Manifest) -> Result<(Versions, Option<StoredObject<Manifest>>), Error> {
        loop {
            let current = |versions: &Versions| Vec::from_iter(versions.current());
            let (versions, mut base) = self.read_versions(manifest.id, current).await?;
            match base.pop() {
                Some(base) if base.value.is_expired(now_unix_ms()) => {
                    self.write_tombstone(manifest.id, base.value.version).await?;
                }
                Some(mut base) => {
                    if base.value.margin() > manifest.margin() && !self.is_readable(&base.value).await? {
                        // The text of this version is lost, so its verification guarantees nothing. Without it, the
                        // shards of the put replace the unreadable ones.
                        base.value.verification = None;
                    }
                    return Ok((versions, Some(base)));
                }
                None => return Ok((versions, None)),
            }
        }
    }

    /// Returns whether every shard of a manifest can be read. Reads all of them.
    async fn is_readable(&self, manifest: &Manifest) -> Result<bool, Error> {
        for entry in &manifest.shards {
            let shard = match (manifest.inline_shard(entry), manifest.keys(entry)) {
                (Some(inline), _) => inline,
                (None, Some(keys)) => self.shard(&keys).await,
                (None, None) => return Ok(false),
            };
            match shard {
                Ok(_) => {}
                Err(Error::Missing { .. } | Error::Damaged { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Lists the versions of a document and reads those that `choose` returns, except damaged ones.
    async fn read_versions(
        &self,
        id: DocumentId,
        choose: impl Fn(&Versions) -> Vec<LocatedVersion>,
    ) -> Result<(Versions, Vec<StoredObject<Manifest>>), Error> {
        'list: loop {
            let versions = self.latest_versions(id).await?;
            let mut manifests = Vec::new();
            for located in choose(&versions) {
                match self.read_manifest(id, &located).await {
                    Ok(manifest) => manifests.push(manifest),
                    // The version was moved or replaced after the listing.
                    Err(Error::Missing { .. }) => continue 'list,
                    // A damaged manifest guarantees nothing.
                    Err(Error::Damaged { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            return Ok((versions, manifests));
        }
    }

    /// Writes a manifest under a version above all `known` ones. Fails with [`Error::Collected`] if garbage collection
    /// removed, or will remove, an object of the manifest.
    async fn write_version(&self, mut manifest: Manifest, known: &Versions) -> Result<StoredObject<Manifest>, Error> {
        // A newer version of a document never goes into a pack: a gateway that knows an older version looks for newer
        // ones only among objects.
        let small = manifest.shards.iter().all(|shard| matches!(shard.placement, Placement::Inline { .. }));
        let packable = small && known.current().is_none();
        loop {
            manifest.version = Version::after(known.highest());
            let record = Record::new(&manifest);
            let bytes = record.object.len() as u64;
            let written = match packable {
                true => self.group_commit.put(record).await?,
                false => {
                    let key = key::manifest(record.id, record.version);
                    self.objects.write(&key, record.object, Space::Free).await?
                }
            };
            if written != PutOutcome::AlreadyExists {
                self.check_objects(&manifest).await?;
                return Ok(StoredObject { value: manifest, bytes });
            }
        }
    }

    /// Deletes the manifest objects of the versions in a range. A newer version or a tombstone must have replaced these
    /// versions.
    async fn delete_objects(
        &self,
        id: DocumentId,
        versions: &Versions,
        range: impl RangeBounds<Version>,
    ) -> Result<(), Error> {
        for (&version, location) in versions.copies.range(range) {
            if *location == Location::Object {
                self.objects.delete(&key::manifest(id, version)).await?;
            }
        }
        Ok(())
    }

    /// Checks the objects of a manifest that is already durable. If one is missing or pending deletion, deletes the
    /// manifest and fails.
    ///
    /// If this succeeds, no sweep removes the objects later. A pending-delete list that is written after the snapshot
    /// is executed only after a mark phase, which sees the manifest. An older list either is in the snapshot, or was
    /// executed, so that its objects are missing.
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
        // Repeats because a concurrent recode or put may have written a new version.
        while let Some(located) = newest {
            self.write_tombstone(id, located.version).await?;
            let remaining = self.latest_versions(id).await?;
            newest = remaining.current();
            self.delete_objects(id, &remaining, ..=located.version).await?;
        }
        Ok(())
    }

    /// Writes a tombstone, which deletes `version` and all lower ones.
    pub(crate) async fn write_tombstone(&self, id: DocumentId, version: Version) -> Result<(), Error> {
        self.objects.put(&key::tombstone(id, version), b"", Space::Reserve).await.map(drop)
    }

    /// Lists all copies of all manifests. Packs are listed after objects, so that versions that are moved to packs
    /// meanwhile are found.
    pub(crate) async fn inventory(&self) -> Result<Inventory, Error> {
        let folder = Path::from(DOCUMENTS);
        let objects: Vec<_> = self.objects.list(&folder).try_collect().await?;
        self.packs.refresh().await?;
        let deleted = self.newest_versions(DELETED, IdRange::all()).await?;
        let mut copies = Vec::from_iter(objects.into_iter().filter_map(|object| {
            let (id, version) = key::parse_document(&object.location)?;
            let located = LocatedVersion { version, location: Location::Object };
            Some(ManifestCopy { id, located, object: Some(object) })
        }));
        for pack in self.packs.all() {
            copies.extend(pack.entries.iter().map(|entry| ManifestCopy {
                id: entry.id,
                located: pack.located(entry),
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

    /// Returns the current version of a document, expired or not.
    pub async fn current_version(&self, id: DocumentId) -> Result<Option<LocatedVersion>, Error> {
        let current = self.versions(id).await?.current();
        if current.is_some() {
            return Ok(current);
        }
        // Another gateway may have written the document into a pack, or moved it to one, after this gateway last listed
        // the packs.
        self.packs.refresh().await?;
        Ok(self.versions(id).await?.current())
    }

    /// Returns the versions that are objects now, and the versions that were in packs at the last refresh.
    async fn versions(&self, id: DocumentId) -> Result<Versions, Error> {
        let objects = self.object_versions(id).await?;
        Ok(self.with_packed(id, objects))
    }

    /// Returns all versions. Lists packs after objects, so that versions that are moved to packs meanwhile are found.
    async fn latest_versions(&self, id: DocumentId) -> Result<Versions, Error> {
        let objects = self.object_versions(id).await?;
        self.packs.refresh().await?;
        Ok(self.with_packed(id, objects))
    }

    async fn object_versions(&self, id: DocumentId) -> Result<Versions, Error> {
        let (documents, tombstones) = (key::document_prefix(DOCUMENTS, id), key::document_prefix(DELETED, id));
        let objects = self.objects.versions(&documents);
        let deleted = self.objects.versions(&tombstones);
        let (objects, deleted) = future::try_join(objects, deleted).await?;
        Ok(Versions {
            copies: objects.iter().map(|key| (key.split_version().1, Location::Object)).collect(),
            deleted: deleted.last().map(|key| key.split_version().1),
        })
    }

    fn with_packed(&self, id: DocumentId, mut versions: Versions) -> Versions {
        for LocatedVersion { version, location } in self.packs.versions(id) {
            versions.copies.entry(version).or_insert(location);
        }
        versions
    }
}

/// Returns the live versions in `now` that other writers have written since `known` was listed. `own` is the version of
/// the caller, which is left out.
fn rivals(now: &Versions, known: &Versions, own: Version) -> Vec<LocatedVersion> {
    now.live().filter(|located| located.version != own && !known.copies.contains_key(&located.version)).collect()
}

fn missing(id: DocumentId) -> Error {
    Error::Missing { object: key::manifest(id, Version::NONE).to_string() }
}

#[cfg(test)]
mod tests;
