//! Memory tier: shards in memory, limited by their total size.

use std::sync::Arc;

use moka::future::Cache;

use crate::object::key::ShardKeys;
use crate::{Error, Shard};

/// Cache of shards in memory.
pub(crate) struct Memory {
    shards: Cache<ShardKeys, Arc<Shard>>,
}

impl Memory {
    /// Creates a cache of at most `bytes`. With 0 it caches nothing.
    pub(crate) fn new(bytes: u64) -> Self {
        let weight =
            |keys: &ShardKeys, shard: &Arc<Shard>| u32::try_from(keys.weight() + shard.weight()).unwrap_or(u32::MAX);
        Self { shards: Cache::builder().max_capacity(bytes).weigher(weight).build() }
    }

    /// Returns a shard; `None` if it is not cached.
    pub(crate) async fn get(&self, keys: &ShardKeys) -> Option<Arc<Shard>> {
        self.shards.get(keys).await
    }

    /// Returns a shard. If it is not cached, one of the concurrent callers runs `fetch`, and all share the result.
    pub(crate) async fn get_or_fetch(
        &self,
        keys: &ShardKeys,
        fetch: impl Future<Output = Result<Arc<Shard>, Error>>,
    ) -> Result<Arc<Shard>, Error> {
        let entry = self.shards.entry_by_ref(keys).or_try_insert_with(fetch).await;
        entry.map(moka::Entry::into_value).map_err(|shared: Arc<Error>| Error::clone(&shared))
    }

    /// Evicts all shards.
    pub(crate) fn clear(&self) {
        self.shards.invalidate_all();
    }

    /// Evicts shards until the cache is within its limit.
    #[cfg(test)]
    pub(crate) async fn run_pending_tasks(&self) {
        self.shards.run_pending_tasks().await;
    }
}
