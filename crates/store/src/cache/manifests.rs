//! Cache of manifests in memory, which only reads of documents use. A cached manifest is used as long as its cache
//! validator is unchanged. The validator is a value that changes when another version may have become current.

use std::sync::Arc;

use c3_types::DocumentId;
use moka::future::Cache;

use crate::cache::ResolvedManifest;
use crate::cache::validator::{Validator, ValidatorPaths};
use crate::object::version::now_unix_ms;
use crate::{Error, Store};

/// Approximate memory use of a cache entry in bytes, without its manifest.
const ENTRY_WEIGHT: usize = 320;

/// Cache of manifests that were read recently.
pub struct ManifestCache(Cache<DocumentId, CachedManifest>);

/// A manifest, with the validator that was read just before it.
#[derive(Clone)]
struct CachedManifest {
    manifest: Arc<ResolvedManifest>,
    paths: Arc<ValidatorPaths>,
    validator: Validator,
}

impl ManifestCache {
    /// Creates a cache of at most `bytes`. With 0 it caches nothing.
    pub fn new(bytes: u64) -> Self {
        let weight = |_: &DocumentId, cached: &CachedManifest| {
            u32::try_from(ENTRY_WEIGHT + cached.manifest.weight()).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(bytes).weigher(weight).build())
    }

    /// Returns a document's manifest from the cache, or from the store as [`Store::manifest`] does.
    pub async fn get(&self, id: DocumentId, store: &Store) -> Result<Arc<ResolvedManifest>, Error> {
        if store.is_shredded() {
            self.0.invalidate_all();
        }
        if let Some(CachedManifest { manifest, paths, validator }) = self.0.get(&id).await
            && store.validator(&paths) == Some(validator)
            && !manifest.value.is_expired(now_unix_ms())
        {
            return Ok(manifest);
        }
        let before = store.validator_paths(id).and_then(|paths| Some((store.validator(&paths)?, paths)));
        let manifest = Arc::new(ResolvedManifest::new(store.manifest(id).await?));
        if let Some((validator, paths)) = before.filter(|(validator, _)| validator.is_strong()) {
            let cached = CachedManifest { manifest: Arc::clone(&manifest), paths: Arc::new(paths), validator };
            self.0.insert(id, cached).await;
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::manifest::tests::manifest;
    use crate::manifest::{Manifest, ShardEntry};
    use crate::shard::tests::shard;

    /// Returns a document of one inline shard.
    fn small() -> Manifest {
        let whole = manifest(&[vec![40]], false);
        let shards = vec![ShardEntry::inline(whole.shards[0].hash, &shard(&[40]).into_encoded(), None)];
        Manifest { shards, ..whole }
    }

    /// Sets the modification times of the folders to a minute ago, so that validators are strong.
    fn settle(data: &std::path::Path) {
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        for folder in ["documents", "deleted"] {
            for below in std::fs::read_dir(data.join(folder)).into_iter().flatten() {
                File::open(below.unwrap().path()).unwrap().set_modified(long_ago).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_manifest_is_cached_until_something_changes() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_str().unwrap();
        let (store, other) = (Store::open(data).await.unwrap(), Store::open(data).await.unwrap());
        let manifests = ManifestCache::new(1 << 20);
        let first = store.put_manifest(small()).await.unwrap().value;
        let id = first.id;

        // A manifest that was just put is not cached: the next change may have the same modification time.
        let read = manifests.get(id, &store).await.unwrap();
        assert!(!Arc::ptr_eq(&read, &manifests.get(id, &store).await.unwrap()));
        settle(folder.path());
        let read = manifests.get(id, &store).await.unwrap();
        assert!(Arc::ptr_eq(&read, &manifests.get(id, &store).await.unwrap()));

        // Another gateway puts a new version, and then deletes it.
        let second = other.put_manifest(first.clone()).await.unwrap().value;
        assert_eq!(manifests.get(id, &store).await.unwrap().value.version, second.version);
        settle(folder.path());
        manifests.get(id, &store).await.unwrap();
        other.delete(id).await.unwrap();
        assert!(matches!(manifests.get(id, &store).await, Err(Error::Missing { .. })));
        settle(folder.path());
        assert!(matches!(manifests.get(id, &store).await, Err(Error::Missing { .. })));
    }

    #[tokio::test]
    async fn an_expired_manifest_is_not_returned() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).await.unwrap();
        let manifests = ManifestCache::new(1 << 20);
        let expires_unix_ms = now_unix_ms() + 500;
        let short = Manifest { expires_unix_ms: Some(expires_unix_ms), ..small() };
        let id = store.put_manifest(short).await.unwrap().value.id;
        settle(folder.path());
        manifests.get(id, &store).await.unwrap();
        while now_unix_ms() <= expires_unix_ms {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(matches!(manifests.get(id, &store).await, Err(Error::Missing { .. })));
    }
}
