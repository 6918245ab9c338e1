//! The sweep: removes what no document refers to any more. Safe against a crash at any instant, and against puts,
//! deletes and sweeps of other gateways.
//!
//! An object that no manifest names and that is older than the grace is put on a condemned list first. From then on no
//! put builds on it. Once the list is as old as the grace, all manifests are read again, and what is still unnamed is
//! removed: a put that chose an object before it was condemned has ended by then, and its manifest is seen. One that
//! lasted longer finds its objects condemned or gone when it looks after its manifest is written, and fails.

use std::collections::HashSet;
use std::time::Duration;

use c3_proto::DocumentId;
use futures::{TryStreamExt, pin_mut};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::Store;
use super::condemned::NAMES_MAX;
use super::layout::{self, CORRECTIONS, DELETED, LATENTS, Name};
use super::mark::{Census, Copy, Marked};
use super::objects::StoreError;
use super::stamp::{Stamp, now_unix_ms};
use super::trouble::Trouble;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Objects that were put on a condemned list.
    pub(crate) condemned: u64,
    /// Objects that were removed, and their bytes.
    pub(crate) removed: u64,
    pub(crate) removed_bytes: u64,
    /// Documents past their time that were deleted.
    pub(crate) expired: u64,
    /// Documents that were moved into new packs.
    pub(crate) packed: u64,
    /// Manifests that cannot be read. Where there is one, no shard's object is removed.
    pub(crate) unreadable: u64,
}

impl Store {
    /// Sweeps. With a grace of zero all is removed that nothing refers to now, which fails puts that are under way.
    pub(crate) async fn sweep(&self, grace: Duration) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        self.pass(grace, &mut swept).await?;
        if grace.is_zero() {
            // What was condemned just now is old enough already.
            self.pass(grace, &mut swept).await?;
        }
        Ok(swept)
    }

    async fn pass(&self, grace: Duration, swept: &mut Swept) -> Result<(), StoreError> {
        let (left, bytes) = self.objects.remove_left(grace).await?;
        swept.removed += left;
        swept.removed_bytes += bytes;
        goes_on_if_full(self.merge(grace, swept).await)?;
        // Listed before the manifests are read: what is read counts against what is on these lists.
        let lists = self.condemned.lists().await?;
        let marked = self.mark().await?;
        for &(id, version) in &marked.expired {
            goes_on_if_full(self.bury(id, version).await)?;
            swept.expired += 1;
        }
        swept.unreadable = marked.unreadable;
        if marked.unreadable == 0 {
            for (stamp, object) in &lists {
                if is_older(object, grace) {
                    self.execute(*stamp, &marked, swept).await?;
                }
            }
            goes_on_if_full(self.condemn(grace, &marked, swept).await)?;
        }
        self.drop_dead(swept).await?;
        self.drop_uploads(swept).await?;
        // Where a manifest cannot be read, a document may be there all the same.
        if marked.unreadable == 0 {
            let needed = self.sweep_cells(grace, swept).await?;
            self.drop_tombstones(grace, &needed, swept).await?;
        }
        Ok(())
    }

    /// Removes what a list names and still nothing refers to, then the list.
    async fn execute(&self, list: Stamp, marked: &Marked, swept: &mut Swept) -> Result<(), StoreError> {
        let Some(names) = self.condemned.list(list).await? else { return Ok(()) };
        for name in names.iter() {
            let path = Path::parse(name).map_err(object_store::Error::from)?;
            let name = Name::at(path);
            if !marked.refers_to(&name) {
                self.remove(&name, swept).await?;
            }
        }
        self.objects.delete(&layout::condemned(list)).await
    }

    /// Lists what nothing refers to.
    async fn condemn(&self, grace: Duration, marked: &Marked, swept: &mut Swept) -> Result<(), StoreError> {
        let mut condemned = Vec::new();
        for folder in [CORRECTIONS, LATENTS] {
            let folder = Path::from(folder);
            let objects = self.objects.list(&folder, &folder);
            pin_mut!(objects);
            while let Some(object) = objects.try_next().await? {
                let old = is_older(&object, grace);
                let name = Name::at(object.location);
                if old && !marked.refers_to(&name) && !self.condemned.names(&name).await? {
                    condemned.push(name);
                }
            }
        }
        swept.condemned += condemned.len() as u64;
        for names in condemned.chunks(NAMES_MAX) {
            self.condemned.put(names).await?;
        }
        Ok(())
    }

    /// Removes manifests that lie by themselves and do not count any more.
    async fn drop_dead(&self, swept: &mut Swept) -> Result<(), StoreError> {
        let census = self.census().await?;
        let highest = census.highest();
        for copy in census.copies.iter().filter(|copy| copy.object.is_some()) {
            if !census.counts(copy, &highest) || self.is_also_packed(copy, &census).await {
                self.remove(&layout::manifest(copy.id, copy.found.version), swept).await?;
            }
        }
        Ok(())
    }

    /// Whether a pack holds the same version, soundly: a crash came between a move's two steps.
    async fn is_also_packed(&self, copy: &Copy, census: &Census) -> bool {
        for other in census.of(copy.id) {
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
        swept: &mut Swept,
    ) -> Result<(), StoreError> {
        let folder = Path::from(DELETED);
        let tombstones: Vec<_> = self.objects.list(&folder, &folder).try_collect().await?;
        // Read after them: a copy that is made of an older one later comes within the grace.
        let census = self.census().await?;
        for tombstone in tombstones.into_iter().filter(|tombstone| is_older(tombstone, grace)) {
            let Some((id, stamp)) = layout::document_at(&tombstone.location) else { continue };
            if !needed.contains(&id) && census.of(id).all(|copy| copy.found.version > stamp) {
                self.remove(&layout::tombstone(id, stamp), swept).await?;
            }
        }
        Ok(())
    }

    /// Removes an object and counts it.
    pub(crate) async fn remove(&self, name: &Name, swept: &mut Swept) -> Result<(), StoreError> {
        match self.objects.size(name).await {
            Ok(bytes) => {
                self.objects.delete(name).await?;
                swept.removed += 1;
                swept.removed_bytes += bytes;
                Ok(())
            }
            Err(StoreError::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What a full disk has no room for is left out: a sweep must be able to free it.
fn goes_on_if_full(step: Result<(), StoreError>) -> Result<(), StoreError> {
    match step {
        Err(error @ StoreError::Unable { trouble: Trouble::Full, .. }) => {
            tracing::warn!(%error, "the sweep goes on with what needs no room");
            Ok(())
        }
        step => step,
    }
}

/// Whether an object was written so long ago. One from the future, where a clock was set back, was not.
pub(crate) fn is_older(object: &ObjectMeta, age: Duration) -> bool {
    let written = u64::try_from(object.last_modified.timestamp_millis()).unwrap_or(0);
    let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    written.checked_add(age_ms).is_some_and(|due| due <= now_unix_ms())
}
