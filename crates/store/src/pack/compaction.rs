//! Merging: small documents that lie by themselves, and packs with many records that do not count any more, become new
//! packs. A record is moved as it is, with its version, so that a delete or a put meanwhile loses nothing.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use c3_types::DocumentId;

use crate::Error;
use crate::Store;
use crate::manifest::Location;
use crate::manifest::{Inventory, ManifestCopy};
use crate::object::is_older_than;
use crate::object::key::{self, ObjectKey};
use crate::object::version::Version;
use crate::pack::format::Record;
use c3_types::SweepSummary;

/// Largest manifest that is moved into a pack.
const RECORD_BYTES_MAX: u64 = 16 << 10;
/// Fewest documents that are worth a new pack.
const RECORDS_MIN: usize = 16;
/// Most documents of a new pack.
const RECORDS_MAX: usize = 4096;
/// PackIndex with fewer records are merged with others.
const SMALL_PACK_RECORDS: usize = 512;

impl Store {
    /// Moves what is better kept together, then removes where it was.
    pub async fn merge(&self, grace: Duration, swept: &mut SweepSummary) -> Result<(), Error> {
        let inventory = self.inventory().await?;
        let highest = inventory.highest();
        let (packs, records) = self.candidates(&inventory, &highest, grace);
        let worth_it = records.len() >= RECORDS_MIN || !packs.is_empty();
        if !worth_it {
            return Ok(());
        }
        let mut moved = packs;
        for copies in records.chunks(RECORDS_MAX) {
            let mut records = Vec::with_capacity(copies.len());
            for copy in copies {
                match self.record(copy).await {
                    Ok(record) => {
                        if copy.object.is_some() {
                            moved.push(key::manifest(copy.id, copy.found.version));
                        }
                        records.push(record);
                    }
                    Err(Error::Missing { .. }) => {}
                    // It stays where it is, and what holds it, too.
                    Err(error @ Error::Damaged { .. }) => {
                        tracing::warn!(%error, "it is not moved");
                        if let Location::Pack { pack, .. } = &copy.found.location {
                            moved.retain(|name| name != pack);
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
            swept.packed += records.len() as u64;
            if !records.is_empty() {
                self.packs.put(records).await?;
            }
        }
        for name in moved {
            self.remove(&name, swept).await?;
        }
        self.packs.refresh().await
    }

    /// PackIndex that are to go, and the documents that are to be moved.
    fn candidates<'a>(
        &self,
        inventory: &'a Inventory,
        highest: &HashMap<DocumentId, Version>,
        grace: Duration,
    ) -> (Vec<ObjectKey>, Vec<&'a ManifestCopy>) {
        let mut counting: HashMap<&ObjectKey, usize> = HashMap::new();
        for copy in &inventory.copies {
            if let Location::Pack { pack, .. } = &copy.found.location
                && inventory.counts(copy, highest)
            {
                *counting.entry(pack).or_default() += 1;
            }
        }
        let known = self.packs.known();
        let sound = known.iter().filter(|pack| pack.damage.is_none());
        let with_counts =
            Vec::from_iter(sound.map(|pack| (pack, counting.get(&pack.name).copied().unwrap_or(0))));
        let small = |count: usize| count < SMALL_PACK_RECORDS;
        let many_small = with_counts.iter().filter(|(_, count)| small(*count)).count() >= RECORDS_MIN;
        let going = with_counts
            .iter()
            .filter(|(pack, count)| 2 * count < pack.entries.len() || (many_small && small(*count)));
        let packs = Vec::from_iter(going.map(|(pack, _)| pack.name.clone()));
        let in_packs = inventory.copies.iter().filter(|copy| copy.object.is_none()).map(|copy| copy.id);
        let in_packs = HashSet::<DocumentId>::from_iter(in_packs);
        let movable = inventory.copies.iter().filter(|copy| inventory.counts(copy, highest));
        let records = movable.filter(|copy| match (&copy.found.location, &copy.object) {
            (Location::Pack { pack, .. }, _) => packs.contains(pack),
            // Who knows an old version in a pack looks for a newer one by itself, and not in further packs.
            (Location::Object, Some(object)) => {
                object.size <= RECORD_BYTES_MAX
                    && is_older_than(object, grace)
                    && !in_packs.contains(&copy.id)
            }
            (Location::Object, None) => false,
        });
        let mut records = Vec::from_iter(records);
        // One that lies in two places is moved once.
        records.dedup_by_key(|copy| copy.id);
        (packs, records)
    }

    async fn record(&self, copy: &ManifestCopy) -> Result<Record, Error> {
        let manifest = self.read_manifest(copy.id, &copy.found).await?.value;
        Ok(Record::of(&manifest))
    }
}
