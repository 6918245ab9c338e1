//! The sweep: removes what no document refers to any more. Safe against a crash at any instant, and against puts,
//! deletes and sweeps of other gateways.
//!
//! An object that no manifest names and that is older than the grace is put on a condemned list first. From then on no
//! put builds on it. Once the list is as old as the grace, all manifests are read again, and what is still unnamed is
//! removed: a put that chose an object before it was condemned has ended by then, and its manifest is seen. One that
//! lasted longer finds its objects condemned or gone when it looks after its manifest is written, and fails.

use std::collections::HashSet;
use std::time::Duration;

use c3_types::DocumentId;
use futures::{TryStreamExt, pin_mut};
use object_store::path::Path;

use crate::gc::mark::LiveObjects;
use crate::gc::pending_deletes::NAMES_MAX;
use crate::manifest::{Inventory, ManifestCopy};
use crate::object::availability::Unavailable;
use crate::object::is_older_than;
use crate::object::key::{self, CORRECTIONS, DELETED, LATENTS, ObjectKey};
use crate::object::version::Version;
use crate::{Error, Store};
use c3_types::SweepSummary;

impl Store {
    /// Sweeps. With a grace of zero all is removed that nothing refers to now, which fails puts that are under way.
    pub async fn sweep(&self, grace: Duration) -> Result<SweepSummary, Error> {
        let mut swept = SweepSummary::default();
        self.pass(grace, &mut swept).await?;
        if grace.is_zero() {
            // What was condemned just now is old enough already.
            self.pass(grace, &mut swept).await?;
        }
        Ok(swept)
    }

    async fn pass(&self, grace: Duration, swept: &mut SweepSummary) -> Result<(), Error> {
        let (left, bytes) = self.objects.remove_left(grace).await?;
        swept.removed += left;
        swept.removed_bytes += bytes;
        tolerate_full(self.merge(grace, swept).await)?;
        // Listed before the manifests are read: what is read counts against what is on these lists.
        let lists = self.pending_deletes.lists().await?;
        let marked = self.mark().await?;
        for &(id, version) in &marked.expired {
            tolerate_full(self.write_tombstone(id, version).await)?;
            swept.expired += 1;
        }
        swept.unreadable = marked.unreadable;
        if marked.unreadable == 0 {
            for (stamp, object) in &lists {
                if is_older_than(object, grace) {
                    self.execute(*stamp, &marked, swept).await?;
                }
            }
            tolerate_full(self.condemn(grace, &marked, swept).await)?;
        }
        self.drop_dead(swept).await?;
        self.drop_uploads(swept).await?;
        // Where a manifest cannot be read, a document may be there all the same.
        if marked.unreadable == 0 {
            let needed = self.sweep_registers(grace, swept).await?;
            self.drop_tombstones(grace, &needed, swept).await?;
        }
        Ok(())
    }

    /// Removes what a list names and still nothing refers to, then the list.
    async fn execute(
        &self,
        list: Version,
        marked: &LiveObjects,
        swept: &mut SweepSummary,
    ) -> Result<(), Error> {
        let Some(names) = self.pending_deletes.list(list).await? else { return Ok(()) };
        for name in names.iter() {
            let path = Path::parse(name).map_err(object_store::Error::from)?;
            let name = ObjectKey::at(path);
            if !marked.refers_to(&name) {
                self.remove(&name, swept).await?;
            }
        }
        self.objects.delete(&key::pending_deletes(list)).await
    }

    /// Lists what nothing refers to.
    async fn condemn(
        &self,
        grace: Duration,
        marked: &LiveObjects,
        swept: &mut SweepSummary,
    ) -> Result<(), Error> {
        let mut condemned = Vec::new();
        for folder in [CORRECTIONS, LATENTS] {
            let folder = Path::from(folder);
            let objects = self.objects.list(&folder, &folder);
            pin_mut!(objects);
            while let Some(object) = objects.try_next().await? {
                let old = is_older_than(&object, grace);
                let name = ObjectKey::at(object.location);
                if old && !marked.refers_to(&name) && !self.pending_deletes.names(&name).await? {
                    condemned.push(name);
                }
            }
        }
        swept.pending_deletes += condemned.len() as u64;
        for names in condemned.chunks(NAMES_MAX) {
            self.pending_deletes.put(names).await?;
        }
        Ok(())
    }

    /// Removes manifests that lie by themselves and do not count any more.
    async fn drop_dead(&self, swept: &mut SweepSummary) -> Result<(), Error> {
        let inventory = self.inventory().await?;
        let highest = inventory.highest();
        for copy in inventory.copies.iter().filter(|copy| copy.object.is_some()) {
            if !inventory.counts(copy, &highest) || self.is_also_packed(copy, &inventory).await {
                self.remove(&key::manifest(copy.id, copy.found.version), swept).await?;
            }
        }
        Ok(())
    }

    /// Whether a pack holds the same version, soundly: a crash came between a move's two steps.
    async fn is_also_packed(&self, copy: &ManifestCopy, inventory: &Inventory) -> bool {
        for other in inventory.of(copy.id) {
            let same = other.object.is_none() && other.found.version == copy.found.version;
            if same && self.read_manifest(other.id, &other.found).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Removes tombstones older than the grace that stand over nothing, also no name and no labels.
    async fn drop_tombstones(
        &self,
        grace: Duration,
        needed: &HashSet<DocumentId>,
        swept: &mut SweepSummary,
    ) -> Result<(), Error> {
        let folder = Path::from(DELETED);
        let tombstones: Vec<_> = self.objects.list(&folder, &folder).try_collect().await?;
        // Read after them: a copy that is made of an older one later comes within the grace.
        let inventory = self.inventory().await?;
        for tombstone in tombstones.into_iter().filter(|tombstone| is_older_than(tombstone, grace)) {
            let Some((id, stamp)) = key::document_at(&tombstone.location) else { continue };
            if !needed.contains(&id) && inventory.of(id).all(|copy| copy.found.version > stamp) {
                self.remove(&key::tombstone(id, stamp), swept).await?;
            }
        }
        Ok(())
    }

    /// Removes an object and counts it.
    pub async fn remove(&self, name: &ObjectKey, swept: &mut SweepSummary) -> Result<(), Error> {
        match self.objects.size(name).await {
            Ok(bytes) => {
                self.objects.delete(name).await?;
                swept.removed += 1;
                swept.removed_bytes += bytes;
                Ok(())
            }
            Err(Error::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What a full disk has no room for is left out: a sweep must be able to free it.
fn tolerate_full(step: Result<(), Error>) -> Result<(), Error> {
    match step {
        Err(error @ Error::Unavailable { reason: Unavailable::Full, .. }) => {
            tracing::warn!(%error, "the sweep goes on with what needs no room");
            Ok(())
        }
        step => step,
    }
}
