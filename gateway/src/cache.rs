//! The memory tier: shards as read from the store, weighed by bytes, each fetched once however many ask for it.
//!
//! Holds latents and corrections, never a text, and nothing that the store does not hold.

use std::sync::Arc;

use c3_service::metrics::Lookup;
use moka::future::Cache;

use crate::metrics::Metrics;
use crate::store::layout::ShardNames;
use crate::store::{Shard, Store, StoreError};

/// Shards in memory.
pub(crate) struct ShardCache {
    shards: Cache<ShardNames, Arc<Shard>>,
    metrics: Metrics,
}

impl ShardCache {
    /// A cache of at most so many bytes; with 0 nothing stays.
    pub(crate) fn new(bytes: u64, metrics: Metrics) -> Self {
        let weight = |names: &ShardNames, shard: &Arc<Shard>| {
            u32::try_from(names.weight() + shard.weight()).unwrap_or(u32::MAX)
        };
        Self { shards: Cache::builder().max_capacity(bytes).weigher(weight).build(), metrics }
    }

    /// The shard, from memory or else from the store.
    pub(crate) async fn get(&self, names: &ShardNames, store: &Store) -> Result<Arc<Shard>, StoreError> {
        let entry = self.shards.entry_by_ref(names).or_try_insert_with(async {
            let shard = store.shard(names).await?;
            Ok(Arc::new(shard))
        });
        let entry = entry.await.map_err(|shared: Arc<StoreError>| StoreError::clone(&shared));
        let outcome = match &entry {
            Ok(entry) if !entry.is_fresh() => Lookup::Hit,
            _ => Lookup::Miss,
        };
        self.metrics.shared.lookup("latents", outcome);
        Ok(entry?.into_value())
    }

    /// Takes a shard that was just stored, in the place of what was there.
    pub(crate) async fn put(&self, names: ShardNames, shard: Shard) {
        self.shards.insert(names, Arc::new(shard)).await;
    }
}

#[cfg(test)]
mod tests {
    use c3_proto::{Fingerprint, LatentCodec, ShardHash};

    use super::*;
    use crate::store::layout::{LatentSettings, ShardFamilies};
    use crate::store::shard::tests::shard;
    use crate::store::stamp::Stamp;

    #[tokio::test]
    async fn a_shard_is_read_once_and_again_when_there_is_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).await.unwrap();
        let settings =
            LatentSettings { compressor: Fingerprint::of(b"c"), ratio: 20, codec: LatentCodec::Q4_0 };
        let family = ShardFamilies::new(ShardHash::of(b"s"), &settings, None, None).latents;
        let (small, roomy) = (ShardCache::new(0, Metrics::new()), ShardCache::new(1 << 20, Metrics::new()));
        let absent = ShardNames { latents: family.at(Stamp::NONE), corrections: None };
        assert!(matches!(roomy.get(&absent, &store).await, Err(StoreError::Missing { .. })));
        let (generation, _) = store.put_latents(&family, shard(&[40])).await.unwrap();
        let names = ShardNames { latents: family.at(generation), corrections: None };
        for cache in [&small, &roomy] {
            assert_eq!(cache.get(&names, &store).await.unwrap().windows.len(), 1);
        }
        std::fs::remove_dir_all(folder.path().join("latents")).unwrap();
        small.shards.run_pending_tasks().await;
        assert!(matches!(small.get(&names, &store).await, Err(StoreError::Missing { .. })));
        assert_eq!(roomy.get(&names, &store).await.unwrap().windows.len(), 1);
    }
}
