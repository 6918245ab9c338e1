//! Merging: small documents that lie by themselves, and packs with many records that do not count any more, become new
//! packs. A record is moved as it is, with its version, so that a delete or a put meanwhile loses nothing.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use c3_proto::DocumentId;

use super::Store;
use super::documents::At;
use super::layout::{self, Name};
use super::mark::{Census, Copy};
use super::objects::StoreError;
use super::pack::Record;
use super::stamp::Stamp;
use super::sweep::{Swept, is_older};

/// Largest manifest that is moved into a pack.
const RECORD_BYTES_MAX: u64 = 16 << 10;
/// Fewest documents that are worth a new pack.
const RECORDS_MIN: usize = 16;
/// Most documents of a new pack.
const RECORDS_MAX: usize = 4096;
/// Packs with fewer records are merged with others.
const SMALL_PACK_RECORDS: usize = 512;

impl Store {
    /// Moves what is better kept together, then removes where it was.
    pub(crate) async fn merge(&self, grace: Duration, swept: &mut Swept) -> Result<(), StoreError> {
        let census = self.census().await?;
        let highest = census.highest();
        let (packs, records) = self.candidates(&census, &highest, grace);
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
                            moved.push(layout::manifest(copy.id, copy.found.version));
                        }
                        records.push(record);
                    }
                    Err(StoreError::Missing { .. }) => {}
                    // It stays where it is, and what holds it, too.
                    Err(error @ StoreError::Damaged { .. }) => {
                        tracing::warn!(%error, "it is not moved");
                        if let At::Pack { pack, .. } = &copy.found.at {
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

    /// Packs that are to go, and the documents that are to be moved.
    fn candidates<'a>(
        &self,
        census: &'a Census,
        highest: &HashMap<DocumentId, Stamp>,
        grace: Duration,
    ) -> (Vec<Name>, Vec<&'a Copy>) {
        let mut counting: HashMap<&Name, usize> = HashMap::new();
        for copy in &census.copies {
            if let At::Pack { pack, .. } = &copy.found.at
                && census.counts(copy, highest)
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
        let in_packs = census.copies.iter().filter(|copy| copy.object.is_none()).map(|copy| copy.id);
        let in_packs = HashSet::<DocumentId>::from_iter(in_packs);
        let movable = census.copies.iter().filter(|copy| census.counts(copy, highest));
        let records = movable.filter(|copy| match (&copy.found.at, &copy.object) {
            (At::Pack { pack, .. }, _) => packs.contains(pack),
            // Who knows an old version in a pack looks for a newer one by itself, and not in further packs.
            (At::Object, Some(object)) => {
                object.size <= RECORD_BYTES_MAX && is_older(object, grace) && !in_packs.contains(&copy.id)
            }
            (At::Object, None) => false,
        });
        let mut records = Vec::from_iter(records);
        // One that lies in two places is moved once.
        records.dedup_by_key(|copy| copy.id);
        (packs, records)
    }

    async fn record(&self, copy: &Copy) -> Result<Record, StoreError> {
        let manifest = self.read_manifest(copy.id, &copy.found).await?.value;
        Ok(Record::of(&manifest))
    }
}
