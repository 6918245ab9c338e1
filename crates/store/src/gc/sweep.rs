//! Sweep phase: removes what no document refers to. Safe against a crash at any instant, and against concurrent puts,
//! deletes and sweeps of other gateways.
//!
//! An unreferenced object older than the grace period is first put on a pending-delete list. From then on no put reuses
//! it. Once the list is older than the grace period, all manifests are read again, and objects that are still
//! unreferenced are removed. A put that chose such an object before the list was written either has ended, so that its
//! manifest is seen, or finds the object listed or gone when it checks its objects after writing its manifest, and
//! fails.

use std::collections::HashSet;
use std::time::Duration;

use c3_types::{DocumentId, SweepSummary};
use futures::{TryStreamExt, pin_mut};
use object_store::path::Path;

use crate::availability::Unavailable;
use crate::gc::mark::LiveObjects;
use crate::gc::pending_deletes::{KEYS_MAX, PendingList, Snapshot};
use crate::manifest::{Inventory, ManifestCopy};
use crate::object::is_older_than;
use crate::object::key::{self, CORRECTIONS, DELETED, LATENTS, ObjectKey};
use crate::{Error, Store};

impl Store {
    /// Collects garbage. A grace period of zero removes everything that is unreferenced now, which makes concurrent
    /// puts fail.
    pub async fn sweep(&self, grace: Duration) -> Result<SweepSummary, Error> {
        let mut summary = SweepSummary::default();
        self.sweep_once(grace, &mut summary).await?;
        if grace.is_zero() {
            // The lists that the first pass wrote are old enough for the second.
            self.sweep_once(grace, &mut summary).await?;
        }
        Ok(summary)
    }

    async fn sweep_once(&self, grace: Duration, summary: &mut SweepSummary) -> Result<(), Error> {
        let (stale, bytes) = self.objects.remove_stale(grace).await?;
        summary.removed += stale;
        summary.removed_bytes += bytes;
        tolerate_full(self.compact(grace, summary).await)?;
        // Before the mark phase, so that it sees every manifest that was written before one of these lists.
        let pending = self.pending_deletes.load().await?;
        let live = self.mark().await?;
        for &(id, version) in &live.expired {
            tolerate_full(self.write_tombstone(id, version).await)?;
            summary.expired += 1;
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
        // An unreadable manifest may belong to a document that exists.
        if live.unreadable == 0 {
            let needed = self.sweep_registers(grace, summary).await?;
            self.remove_tombstones(grace, &needed, summary).await?;
        }
        Ok(())
    }

    /// Removes the objects of a list that are still unreferenced, then the list.
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

    /// Writes pending-delete lists of unreferenced objects.
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
        summary.pending_deletes += unreferenced.len() as u64;
        for keys in unreferenced.chunks(KEYS_MAX) {
            self.pending_deletes.put(keys).await?;
        }
        Ok(())
    }

    /// Removes manifest objects that are not current, or that a pack holds too.
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

    /// Returns whether a pack holds an intact copy of the same version, which an interrupted compaction leaves.
    async fn is_packed(&self, copy: &ManifestCopy, inventory: &Inventory) -> bool {
        for other in inventory.copies_of(copy.id) {
            let same = other.object.is_none() && other.located.version == copy.located.version;
            if same && self.read_manifest(other.id, &other.located).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Removes tombstones older than the grace period that no copy, name or label needs.
    async fn remove_tombstones(
        &self,
        grace: Duration,
        needed: &HashSet<DocumentId>,
        summary: &mut SweepSummary,
    ) -> Result<(), Error> {
        let folder = Path::from(DELETED);
        let tombstones: Vec<_> = self.objects.list(&folder, &folder).try_collect().await?;
        // Listed after the tombstones. A compaction or repair that still moves a deleted version ends within the grace
        // period of the delete, so the inventory has its copy.
        let inventory = self.inventory().await?;
        for tombstone in tombstones.into_iter().filter(|tombstone| is_older_than(tombstone, grace)) {
            let Some((id, version)) = key::parse_document(&tombstone.location) else { continue };
            if !needed.contains(&id) && inventory.copies_of(id).all(|copy| copy.located.version > version) {
                self.remove(&key::tombstone(id, version), summary).await?;
            }
        }
        Ok(())
    }

    /// Removes an object and counts it.
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

/// Skips a step that a full disk has no room for: the sweep must still be able to free space.
fn tolerate_full(step: Result<(), Error>) -> Result<(), Error> {
    match step {
        Err(error @ Error::Unavailable { reason: Unavailable::Full, .. }) => {
            tracing::warn!(%error, "skipped a step of garbage collection that needs space");
            Ok(())
        }
        step => step,
    }
}
