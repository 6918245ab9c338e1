//! Cache tiers in front of the store for shards, which are parts of documents: memory, then a shared Redis if
//! configured.
//!
//! The tiers contain copies of latents and corrections, but no text. Those in Redis are encrypted if the store is. A
//! shard is read only through a manifest, which is read from the store or validated against it ([`ManifestCache`]). A
//! deleted document is therefore unreadable immediately, even if copies of its shards are still cached.

mod manifests;
mod memory;
mod redis;
mod resolved_manifest;
mod validator;
pub(crate) mod value;

use std::sync::Arc;
use std::time::Instant;

pub use self::manifests::ManifestCache;
use self::memory::Memory;
pub use self::redis::Redis;
use self::redis::Reply;
pub use self::resolved_manifest::{ResolvedManifest, ShardLocation};
use crate::metrics::{Lookup, Metrics, Tier};
use crate::object::key::ShardKeys;
use crate::{Error, Shard, Store};

/// Reads shards through the tiers.
pub struct ShardCache {
    memory: Memory,
    redis: Option<Redis>,
    metrics: Metrics,
}

impl ShardCache {
    /// Creates a cache whose memory tier has at most `memory_bytes`. `redis` is `None` without a Redis tier.
    pub fn new(memory_bytes: u64, redis: Option<Redis>, metrics: Metrics) -> Self {
        Self { memory: Memory::new(memory_bytes), redis, metrics }
    }

    /// Returns a shard from memory, Redis or the store, and caches it. Concurrent reads of a shard share one fetch.
    /// Only reads fill the cache: otherwise a large put would evict what readers use.
    pub async fn get(&self, keys: &ShardKeys, store: &Store) -> Result<Arc<Shard>, Error> {
        if store.is_shredded() {
            self.memory.clear();
        }
        let start = Instant::now();
        if let Some(shard) = self.memory.get(keys).await {
            self.metrics.lookup(Tier::Memory, Lookup::Hit, start);
            return Ok(shard);
        }
        self.metrics.lookup(Tier::Memory, Lookup::Miss, start);
        self.memory.get_or_fetch(keys, self.fetch(keys, store)).await
    }

    async fn fetch(&self, keys: &ShardKeys, store: &Store) -> Result<Arc<Shard>, Error> {
        if let Some(redis) = &self.redis {
            let start = Instant::now();
            let reply = redis.get(keys, store).await;
            let outcome = match &reply {
                Reply::Hit(_) => Lookup::Hit,
                Reply::Miss => Lookup::Miss,
                Reply::Failed => Lookup::Failed,
            };
            self.metrics.lookup(Tier::Redis, outcome, start);
            if let Reply::Hit(shard) = reply {
                return Ok(Arc::new(shard));
            }
        }
        let start = Instant::now();
        let shard = store.shard(keys).await;
        let outcome = match &shard {
            Ok(_) => Lookup::Hit,
            Err(Error::Missing { .. }) => Lookup::Miss,
            Err(_) => Lookup::Failed,
        };
        self.metrics.lookup(Tier::Store, outcome, start);
        let shard = shard?;
        if let Some(redis) = &self.redis {
            redis.put(keys, &shard, store);
        }
        Ok(Arc::new(shard))
    }
}

#[cfg(test)]
mod tests {
    use super::value::tests::{key_prefixes, keys};
    use super::*;
    use crate::shard::tests::shard;

    fn metrics() -> Metrics {
        Metrics::new(&opentelemetry::global::meter("test"), "test")
    }

    /// Stores latents and returns their keys.
    async fn stored(store: &Store, number: u32) -> ShardKeys {
        let prefix = key_prefixes(number, false).latents;
        let latents = store.put_latents(&prefix, shard(&[40]).into_encoded()).await.unwrap();
        ShardKeys { latents: prefix.at(latents.version), corrections: None }
    }

    #[tokio::test]
    async fn a_shard_is_read_once_unless_the_cache_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).await.unwrap();
        let cache = |bytes| ShardCache::new(bytes, None, metrics());
        let (small, roomy) = (cache(0), cache(1 << 20));
        assert!(matches!(roomy.get(&keys(1, false), &store).await, Err(Error::Missing { .. })));
        let keys = stored(&store, 1).await;
        for cache in [&small, &roomy] {
            assert_eq!(cache.get(&keys, &store).await.unwrap().windows.len(), 1);
        }
        std::fs::remove_dir_all(folder.path().join("latents")).unwrap();
        small.memory.run_pending_tasks().await;
        assert!(matches!(small.get(&keys, &store).await, Err(Error::Missing { .. })));
        assert_eq!(roomy.get(&keys, &store).await.unwrap().windows.len(), 1);
    }

    #[tokio::test]
    async fn an_unreachable_redis_costs_no_shard() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).await.unwrap();
        // No server listens on port 9.
        let redis = Redis::new("redis://127.0.0.1:9", std::time::Duration::from_secs(60)).unwrap();
        let cache = ShardCache::new(0, Some(redis), metrics());
        for number in 0..20 {
            let keys = stored(&store, number).await;
            assert_eq!(cache.get(&keys, &store).await.unwrap().windows.len(), 1);
        }
    }
}
