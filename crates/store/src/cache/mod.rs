//! The tiers between a request and the store: memory, then a shared cache where there is one, then the store.
//!
//! They hold latents and corrections, never a text, and nothing that the store does not hold. A shard is reached only
//! through a manifest, which is read from the store, or kept where the store shows whether it still counts
//! ([`manifests`]): what is deleted is unreadable at once, whatever is cached.

mod manifests;
mod memory;
mod redis;
mod resolved_manifest;
pub mod validator;
mod value;

use std::sync::Arc;
use std::time::Instant;

pub use self::manifests::ManifestCache;
use self::memory::Memory;
use self::redis::Answer;
pub use self::redis::Redis;
pub use self::resolved_manifest::{ResolvedManifest, ShardLocation};
use crate::metrics::{Lookup, Metrics, Tier};
use crate::object::key::ShardKeys;
use crate::{Error, Shard, Store};

/// Shards, from the nearest tier that has them.
pub struct ShardCache {
    memory: Memory,
    redis: Option<Redis>,
    metrics: Metrics,
}

impl ShardCache {
    /// A cache with at most so many bytes in memory.
    pub fn new(memory_bytes: u64, redis: Option<Redis>, metrics: Metrics) -> Self {
        Self { memory: Memory::new(memory_bytes), redis, metrics }
    }

    /// The shard, from the nearest tier that has it.
    pub async fn get(&self, names: &ShardKeys, store: &Store) -> Result<Arc<Shard>, Error> {
        let begun = Instant::now();
        if let Some(shard) = self.memory.get(names).await {
            self.metrics.lookup(Tier::Memory, Lookup::Hit, begun);
            return Ok(shard);
        }
        self.metrics.lookup(Tier::Memory, Lookup::Miss, begun);
        self.memory.get_or_fetch(names, self.fetch(names, store)).await
    }

    /// Takes a shard that was just stored, in the place of what was there.
    pub async fn put(&self, names: ShardKeys, shard: Shard) {
        if let Some(redis) = &self.redis {
            redis.put(&names, &shard);
        }
        self.memory.put(names, Arc::new(shard)).await;
    }

    async fn fetch(&self, names: &ShardKeys, store: &Store) -> Result<Arc<Shard>, Error> {
        if let Some(redis) = &self.redis {
            let begun = Instant::now();
            let answer = redis.get(names).await;
            let outcome = match &answer {
                Answer::Shard(_) => Lookup::Hit,
                Answer::Nothing => Lookup::Miss,
                Answer::Silent => Lookup::Failed,
            };
            self.metrics.lookup(Tier::Redis, outcome, begun);
            if let Answer::Shard(shard) = answer {
                return Ok(Arc::new(shard));
            }
        }
        let begun = Instant::now();
        let shard = store.shard(names).await;
        let outcome = match &shard {
            Ok(_) => Lookup::Hit,
            Err(Error::Missing { .. }) => Lookup::Miss,
            Err(_) => Lookup::Failed,
        };
        self.metrics.lookup(Tier::Store, outcome, begun);
        let shard = shard?;
        if let Some(redis) = &self.redis {
            redis.put(names, &shard);
        }
        Ok(Arc::new(shard))
    }
}

#[cfg(test)]
mod tests {
    use super::value::tests::{key_prefixes, names};
    use super::*;
    use crate::shard::tests::shard;

    fn metrics() -> Metrics {
        Metrics::new(&opentelemetry::global::meter("test"), "test")
    }

    /// Stores latents, and gives their names.
    async fn stored(store: &Store, number: u32) -> ShardKeys {
        let family = key_prefixes(number, false).latents;
        let (generation, _) = store.put_latents(&family, shard(&[40])).await.unwrap();
        ShardKeys { latents: family.at(generation), corrections: None }
    }

    #[tokio::test]
    async fn a_shard_is_read_once_and_again_when_there_is_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).await.unwrap();
        let cache = |bytes| ShardCache::new(bytes, None, metrics());
        let (small, roomy) = (cache(0), cache(1 << 20));
        assert!(matches!(roomy.get(&names(1, false), &store).await, Err(Error::Missing { .. })));
        let names = stored(&store, 1).await;
        for cache in [&small, &roomy] {
            assert_eq!(cache.get(&names, &store).await.unwrap().windows.len(), 1);
        }
        std::fs::remove_dir_all(folder.path().join("latents")).unwrap();
        small.memory.settle().await;
        assert!(matches!(small.get(&names, &store).await, Err(Error::Missing { .. })));
        assert_eq!(roomy.get(&names, &store).await.unwrap().windows.len(), 1);
    }

    #[tokio::test]
    async fn a_shared_cache_that_is_gone_costs_no_shard() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).await.unwrap();
        // Nobody listens on the discard port.
        let redis = Redis::new("redis://127.0.0.1:9", std::time::Duration::from_secs(60)).unwrap();
        let cache = ShardCache::new(0, Some(redis), metrics());
        for number in 0..20 {
            let names = stored(&store, number).await;
            assert_eq!(cache.get(&names, &store).await.unwrap().windows.len(), 1);
        }
    }
}
