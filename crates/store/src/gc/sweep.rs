//! Sweep phase: removes objects to which no document or upload session refers. Safe against a crash at any instant, and
//! against concurrent puts (writes of documents), deletes and sweeps of other gateways.
//!
//! An unreferenced object older than the grace period is first put on a pending-delete list. From then on, puts do not
//! reuse it. Once the list is older than the grace period, a sweep reads all manifests and removes listed objects that
//! are still unreferenced. A put may have chosen an object for reuse before the object was listed. If the sweep finds
//! the put's manifest, the object stays. Otherwise the put fails: after it wrote its manifest, it checks its objects,
//! and finds one that is listed or missing.

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
    /// Collects garbage that is older than `grace`. A `grace` of zero removes unreferenced objects immediately, which
    /// may make concurrent puts fail. While a manifest or pack is damaged, latents, corrections, registers (names and
    /// labels) and tombstones stay.
    pub async fn sweep(&self, grace: Duration) -> Result<SweepSummary, Error> {
        let mut summary = SweepSummary::default();
        self.sweep_once(grace, &mut summary).await?;
        if grace.is_zero() {
            // The second pass removes the objects that the first pass put on lists.
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
        // The lists are read before the mark phase. So the mark phase sees every manifest that was written before one
        // of these lists.
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
        // A document with a damaged manifest or pack may still exist, so no names, labels or tombstones are removed
        // then.
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

    /// Puts unreferenced latents and corrections on new pending-delete lists if they are older than `grace` and not
    /// listed yet.
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
            let objects = self.objects.list(&folder);
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

    /// Removes manifest objects that are not current, or of which a pack contains an intact copy. Ignores their age.
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

    /// Removes tombstones that are older than `grace` and delete no existing copy. Keeps all tombstones of the
    /// documents in `needed`.
    async fn remove_tombstones(
        &self,
        grace: Duration,
        needed: &HashSet<DocumentId>,
        summary: &mut SweepSummary,
    ) -> Result<(), Error> {
        let folder = Path::from(DELETED);
        let tombstones: Vec<_> = self.objects.list(&folder).try_collect().await?;
        // The inventory is listed after the tombstones. A concurrent compaction or repair may still copy a version
        // after a tombstone deleted it, but only within the grace period. So the inventory contains every such copy.
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

/// Turns the error of a full disk into `None`, so that the sweep skips a step that needs space, and goes on to free
/// space.
fn tolerate_full(step: Result<(), Error>) -> Result<Option<()>, Error> {
    match step {
        Err(error) if error.is_full() => {
            tracing::warn!(%error, "skipped a step of garbage collection that needs space");
            Ok(None)
        }
        step => step.map(Some),
    }
}
