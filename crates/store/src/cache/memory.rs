//! The memory tier: shards weighed by bytes, each fetched once however many ask for it.

use std::sync::Arc;

use moka::future::Cache;

use crate::object::key::ShardKeys;
use crate::{Error, Shard};

/// Shards in memory.
pub struct Memory {
    shards: Cache<ShardKeys, Arc<Shard>>,
}

impl Memory {
    /// At most so many bytes of shards; with 0 nothing stays.
    pub fn new(bytes: u64) -> Self {
        let weight = |names: &ShardKeys, shard: &Arc<Shard>| {
            u32::try_from(names.weight() + shard.weight()).unwrap_or(u32::MAX)
        };
        Self { shards: Cache::builder().max_capacity(bytes).weigher(weight).build() }
    }

    /// The shard, if it is here.
    pub async fn get(&self, names: &ShardKeys) -> Option<Arc<Shard>> {
        self.shards.get(names).await
    }

    /// The shard, from here or else from `fetch`, which runs once for all who ask meanwhile.
    pub async fn get_or_fetch(
        &self,
        names: &ShardKeys,
        fetch: impl Future<Output = Result<Arc<Shard>, Error>>,
    ) -> Result<Arc<Shard>, Error> {
        let entry = self.shards.entry_by_ref(names).or_try_insert_with(fetch).await;
        entry.map(moka::Entry::into_value).map_err(|shared: Arc<Error>| Error::clone(&shared))
    }

    /// Takes a shard in the place of what was there.
    pub async fn put(&self, names: ShardKeys, shard: Arc<Shard>) {
        self.shards.insert(names, shard).await;
    }

    /// Drops what there is no room for.
    #[cfg(test)]
    pub async fn settle(&self) {
        self.shards.run_pending_tasks().await;
    }
}
