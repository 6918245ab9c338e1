//! The memory tier: shards weighed by bytes, each fetched once however many ask for it.

use std::sync::Arc;

use moka::future::Cache;

use crate::store::layout::ShardNames;
use crate::store::{Shard, StoreError};

/// Shards in memory.
pub(crate) struct Memory {
    shards: Cache<ShardNames, Arc<Shard>>,
}

impl Memory {
    /// At most so many bytes of shards; with 0 nothing stays.
    pub(crate) fn new(bytes: u64) -> Self {
        let weight = |names: &ShardNames, shard: &Arc<Shard>| {
            u32::try_from(names.weight() + shard.weight()).unwrap_or(u32::MAX)
        };
        Self { shards: Cache::builder().max_capacity(bytes).weigher(weight).build() }
    }

    /// The shard, if it is here.
    pub(crate) async fn get(&self, names: &ShardNames) -> Option<Arc<Shard>> {
        self.shards.get(names).await
    }

    /// The shard, from here or else from `fetch`, which runs once for all who ask meanwhile.
    pub(crate) async fn get_or_fetch(
        &self,
        names: &ShardNames,
        fetch: impl Future<Output = Result<Arc<Shard>, StoreError>>,
    ) -> Result<Arc<Shard>, StoreError> {
        let entry = self.shards.entry_by_ref(names).or_try_insert_with(fetch).await;
        entry.map(moka::Entry::into_value).map_err(|shared: Arc<StoreError>| StoreError::clone(&shared))
    }

    /// Takes a shard in the place of what was there.
    pub(crate) async fn put(&self, names: ShardNames, shard: Arc<Shard>) {
        self.shards.insert(names, shard).await;
    }

    /// Drops what there is no room for.
    #[cfg(test)]
    pub(crate) async fn settle(&self) {
        self.shards.run_pending_tasks().await;
    }
}
