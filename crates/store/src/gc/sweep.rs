//! Sweep phase: removes objects to which no document or upload session refers. Safe against a crash at any instant, and
//! against concurrent puts, deletes and sweeps of other gateways.
//!
//! An unreferenced object older than the grace period is first put on a pending-delete list. From then on puts do not
//! choose it. Once the list is older than the grace period, a sweep reads all manifests and removes listed objects that
//! are still unreferenced. A put may have chosen an object before it was listed. If the sweep finds the put's manifest,
//! the object stays. Otherwise the put checks its objects after it wrote the manifest, finds one listed or missing, and
//! fails.

use std::collections::HashSet;
use std::time::Duration;

use c3_types::{DocumentId, SweepSummary};
use futures::{TryStreamExt, pin_mut};
use object_store::path::Path;

use crate::gc::mark::LiveObjects;
use crate::gc::pending_deletes::{KEYS_MAX, PendingList, Snapshot};
use crate::manifest::{Inventory, ManifestCopy};
use crate::object::is_older_than;
use crate::object::key::{self, CORRECTIONS, DELETED, LATENTS, ObjectKey};
use crate::{Error, Store};

impl Store {
    /// Collects garbage that is older than `grace`. Zero removes unreferenced objects immediately, which may make
    /// concurrent puts fail. While a manifest or pack is damaged, latents, corrections, registers and tombstones stay.
    pub async fn sweep(&self, grace: Duration) -> Result<SweepSummary, Error> {
        let mut summary = SweepSummary::default();
        self.sweep_once(grace, &mut summary).await?;
        if grace.is_zero() {
            // Executes the lists that the first pass wrote.
            self.sweep_once(grace, &mut summary).await?;
        }
        self.objects.refill_reserve().await?;
        Ok(summary)
    }

    async fn sweep_once(&self, grace: Duration, summary: &mut SweepSummary) -> Result<(), Error> {
        let (stale, bytes) = self.objects.remove_stale(grace).await?;
        summary.removed += stale;
        summary.removed_bytes += bytes;
        tolerate_full(self.compact(grace, summary).await)?;
        // The lists are read before the mark phase, which then sees every manifest that is older than one of the lists.
        let pending = self.pending_deletes.load().await?;
        let live = self.mark().await?;
        for &(id, version) in &live.expired {
            let deleted = tolerate_full(self.write_tombstone(id, version).await)?;
            summary.expired += u64::from(deleted.is_some());
        }
        summary.unreadable = live.unreadable;
        if live.unreadable == 0 {
            for list in pending.lists.iter().filter(|list| is_older_than(&list.object, grace)) {
                self.run_deletes(list, &live, summary).await?;
            }
            tolerate_full(self.schedule_deletes(grace, &live, &pending, summary).await)?;
        }
        self.remove_dead_manifests(summary).await?;
        self.remove_expired_uploads(summary).await?;
        // The document of a damaged manifest may exist, so its names, labels and tombstones are kept.
        if live.unreadable == 0 {
            let needed = self.sweep_registers(grace, summary).await?;
            self.remove_tombstones(grace, &needed, summary).await?;
        }
        Ok(())
    }

    /// Removes the objects of a list that are still unreferenced, then the list. Does nothing if the list is damaged.
    async fn run_deletes(
        &self,
        list: &PendingList,
        live: &LiveObjects,
        summary: &mut SweepSummary,
    ) -> Result<(), Error> {
        let Some(keys) = &list.keys else { return Ok(()) };
        for key in keys.iter() {
            let path = Path::parse(key).map_err(object_store::Error::from)?;
            let key = ObjectKey::from_path(path);
            if !live.contains(&key) {
                self.remove(&key, summary).await?;
            }
        }
        self.objects.delete(&key::pending_deletes(list.version)).await
    }

    /// Lists unreferenced latents and corrections as pending deletes if they are older than `grace` and not listed yet.
    async fn schedule_deletes(
        &self,
        grace: Duration,
        live: &LiveObjects,
        pending: &Snapshot,
        summary: &mut SweepSummary,
    ) -> Result<(), Error> {
        let mut unreferenced = Vec::new();
        for folder in [CORRECTIONS, LATENTS] {
            let folder = Path::from(folder);
            let objects = self.objects.list(&folder, &folder);
            pin_mut!(objects);
            while let Some(object) = objects.try_next().await? {
                let old = is_older_than(&object, grace);
                let key = ObjectKey::from_path(object.location);
                if old && !live.contains(&key) && !pending.contains(&key) {
                    unreferenced.push(key);
                }
            }
        }
        for keys in unreferenced.chunks(KEYS_MAX) {
            self.pending_deletes.put(keys).await?;
            summary.pending_deletes += keys.len() as u64;
        }
        Ok(())
    }

    /// Removes manifest objects, of any age, that are not current or of which a pack contains an intact copy.
    async fn remove_dead_manifests(&self, summary: &mut SweepSummary) -> Result<(), Error> {
        let inventory = self.inventory().await?;
        let newest = inventory.newest();
        for copy in inventory.copies.iter().filter(|copy| copy.object.is_some()) {
            if !inventory.is_current(copy, &newest) || self.is_packed(copy, &inventory).await {
                self.remove(&key::manifest(copy.id, copy.located.version), summary).await?;
            }
        }
        Ok(())
    }

    /// Returns whether a pack contains an intact copy of the same version, as after an interrupted compaction.
    async fn is_packed(&self, copy: &ManifestCopy, inventory: &Inventory) -> bool {
        for other in inventory.copies_of(copy.id) {
            let same = other.object.is_none() && other.located.version == copy.located.version;
            if same && self.read_manifest(other.id, &other.located).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Removes tombstones that are older than `grace` and delete no existing copy. Keeps those of `needed` documents.
    async fn remove_tombstones(
        &self,
        grace: Duration,
        needed: &HashSet<DocumentId>,
        summary: &mut SweepSummary,
    ) -> Result<(), Error> {
        let folder = Path::from(DELETED);
        let tombstones: Vec<_> = self.objects.list(&folder, &folder).try_collect().await?;
        // Listed after the tombstones. A compaction or repair may copy a version after its delete, but ends within the
        // grace period, so the inventory contains the copy.
        let inventory = self.inventory().await?;
        for tombstone in tombstones.into_iter().filter(|tombstone| is_older_than(tombstone, grace)) {
            let Some((id, version)) = key::parse_document(&tombstone.location) else { continue };
            if !needed.contains(&id) && inventory.copies_of(id).all(|copy| copy.located.version > version) {
                self.remove(&key::tombstone(id, version), summary).await?;
            }
        }
        Ok(())
    }

    /// Removes an object and adds it to `summary`. Does nothing if the object is missing.
    pub(crate) async fn remove(&self, key: &ObjectKey, summary: &mut SweepSummary) -> Result<(), Error> {
        match self.objects.size(key).await {
            Ok(bytes) => {
                self.objects.delete(key).await?;
                summary.removed += 1;
                summary.removed_bytes += bytes;
                Ok(())
            }
            Err(Error::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Returns `None` for a step that needs more space than a full disk has, so that the sweep can go on and free space.
fn tolerate_full(step: Result<(), Error>) -> Result<Option<()>, Error> {
    match step {
        Err(error) if error.is_full() => {
            tracing::warn!(%error, "skipped a step of garbage collection that needs space");
            Ok(None)
        }
        step => step.map(Some),
    }
}
