//! Compaction: moves small manifest objects, and the records of sparse or small packs, into new packs. A record is
//! *live* if its version of the document is current; a pack is sparse if fewer than half of its records are live. A
//! manifest keeps its version when it is moved, so concurrent deletes and puts take effect as usual.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use c3_types::{DocumentId, SweepSummary};

use crate::manifest::{Inventory, Location, ManifestCopy};
use crate::object::key::{self, ObjectKey};
use crate::object::version::Version;
use crate::object::{Space, is_older_than};
use crate::pack::format::Record;
use crate::{Error, Store};

/// Maximum size in bytes of a manifest object that is moved into a pack.
const RECORD_BYTES_MAX: u64 = 16 << 10;
/// Minimum number of manifests to move at which compaction starts, if no pack has to be replaced.
const RECORDS_MIN: usize = 16;
/// Maximum records of a new pack.
const RECORDS_MAX: usize = 4096;
/// A pack with fewer live records than this is small. Small packs are merged once there are at least [`RECORDS_MIN`]
/// small packs.
const SMALL_PACK_RECORDS: usize = 512;

impl Store {
    /// Writes new packs. Then removes the packs and manifest objects that they replace. Only objects older than `grace`
    /// are moved.
    pub(crate) async fn compact(&self, grace: Duration, summary: &mut SweepSummary) -> Result<(), Error> {
        let inventory = self.inventory().await?;
        let newest = inventory.newest();
        let (packs, copies) = self.candidates(&inventory, &newest, grace);
        if copies.len() < RECORDS_MIN && packs.is_empty() {
            return Ok(());
        }
        // Packs without a live record are removed first: on a full disk, that makes space for the new packs.
        let (mut replaced, dead): (Vec<_>, Vec<_>) = packs.into_iter().partition(|pack| {
            copies.iter().any(|copy| matches!(&copy.located.location, Location::Pack { pack: of, .. } if of == pack))
        });
        for key in dead {
            self.remove(&key, summary).await?;
        }
        for copies in copies.chunks(RECORDS_MAX) {
            let mut records = Vec::with_capacity(copies.len());
            for copy in copies {
                match self.read_manifest(copy.id, &copy.located).await {
                    Ok(manifest) => {
                        if copy.object.is_some() {
                            replaced.push(key::manifest(copy.id, copy.located.version));
                        }
                        records.push(Record::new(&manifest.value));
                    }
                    Err(Error::Missing { .. }) => {}
                    // A damaged manifest is not moved, so the pack that contains it is kept.
                    Err(error @ Error::Damaged { .. }) => {
                        tracing::warn!(%error, "a damaged manifest is not compacted");
                        if let Location::Pack { pack, .. } = &copy.located.location {
                            replaced.retain(|key| key != pack);
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
            let count = records.len() as u64;
            if count > 0 {
                self.packs.put(records, Space::Reserve).await?;
                summary.packed += count;
            }
        }
        for key in replaced {
            self.remove(&key, summary).await?;
        }
        self.packs.refresh().await
    }

    /// Returns the packs to replace, and the manifest copies to move into new packs.
    fn candidates<'a>(
        &self,
        inventory: &'a Inventory,
        newest: &HashMap<DocumentId, Version>,
        grace: Duration,
    ) -> (Vec<ObjectKey>, Vec<&'a ManifestCopy>) {
        let current = Vec::from_iter(inventory.copies.iter().filter(|copy| inventory.is_current(copy, newest)));
        let mut live_records: HashMap<&ObjectKey, usize> = HashMap::new();
        for copy in &current {
            if let Location::Pack { pack, .. } = &copy.located.location {
                *live_records.entry(pack).or_default() += 1;
            }
        }
        let all = self.packs.all();
        let intact = all.iter().filter(|pack| pack.damage.is_none());
        let with_counts = Vec::from_iter(intact.map(|pack| (pack, live_records.get(&pack.key).copied().unwrap_or(0))));
        let is_small = |count: usize| count < SMALL_PACK_RECORDS;
        let many_small = with_counts.iter().filter(|(_, count)| is_small(*count)).count() >= RECORDS_MIN;
        let replaced = with_counts
            .iter()
            .filter(|(pack, count)| 2 * count < pack.entries.len() || (many_small && is_small(*count)));
        let packs = Vec::from_iter(replaced.map(|(pack, _)| pack.key.clone()));
        let in_packs = inventory.copies.iter().filter(|copy| copy.object.is_none()).map(|copy| copy.id);
        let in_packs = HashSet::<DocumentId>::from_iter(in_packs);
        let mut moved = current;
        moved.retain(|copy| match (&copy.located.location, &copy.object) {
            (Location::Pack { pack, .. }, _) => packs.contains(pack),
            // A newer version of a packed document stays an object: a gateway that knows the older version looks for
            // newer ones only among objects.
            (Location::Object, Some(object)) => {
                object.size <= RECORD_BYTES_MAX && is_older_than(object, grace) && !in_packs.contains(&copy.id)
            }
            (Location::Object, None) => false,
        });
        // A version with two copies is moved only once.
        moved.dedup_by_key(|copy| copy.id);
        (packs, moved)
    }
}
