//! ManifestCache in memory, for readers only: each is good as long as the store shows no sign of another version.

use std::sync::Arc;

use c3_types::DocumentId;
use moka::future::Cache;

use super::ResolvedManifest;
use crate::cache::validator::{Validator, ValidatorPaths};
use crate::object::version::now_unix_ms;
use crate::{Error, Store};

/// Bytes of memory that what is kept beside a manifest takes, near enough.
const KEPT_WEIGHT: usize = 320;

/// ManifestCache that were read lately.
pub struct ManifestCache(Cache<DocumentId, CachedManifest>);

/// A manifest, and what the store looked like before it was read.
#[derive(Clone)]
struct CachedManifest {
    found: Arc<ResolvedManifest>,
    looks: Arc<ValidatorPaths>,
    signs: Validator,
}

impl ManifestCache {
    /// At most so many bytes of manifests; with 0 nothing stays.
    pub fn new(bytes: u64) -> Self {
        let weight = |_: &DocumentId, kept: &CachedManifest| {
            u32::try_from(KEPT_WEIGHT + kept.found.weight()).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(bytes).weigher(weight).build())
    }

    /// A document's manifest, as [`Store::manifest`] finds it.
    pub async fn get(&self, id: DocumentId, store: &Store) -> Result<Arc<ResolvedManifest>, Error> {
        if let Some(CachedManifest { found, looks, signs }) = self.0.get(&id).await
            && store.validator(&looks) == Some(signs)
            && !found.value.is_expired(now_unix_ms())
        {
            return Ok(found);
        }
        let seen = store.validator_paths(id).and_then(|looks| Some((store.validator(&looks)?, looks)));
        let found = Arc::new(ResolvedManifest::new(store.manifest(id).await?));
        if let Some((signs, looks)) = seen.filter(|(signs, _)| signs.is_strong()) {
            let kept = CachedManifest { found: Arc::clone(&found), looks: Arc::new(looks), signs };
            self.0.insert(id, kept).await;
        }
        Ok(found)
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

    /// A document that is all in its manifest.
    fn small() -> Manifest {
        let whole = manifest(&[vec![40]], false);
        let shards = vec![ShardEntry::new(whole.shards[0].hash, &shard(&[40]), None)];
        Manifest { shards, ..whole }
    }

    /// Folders that changed long ago, as they look once nobody has put anything for a while.
    fn settle(data: &std::path::Path) {
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        for folder in ["documents", "deleted"] {
            for below in std::fs::read_dir(data.join(folder)).into_iter().flatten() {
                File::open(below.unwrap().path()).unwrap().set_modified(long_ago).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_given_until_something_changes() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_str().unwrap();
        let (store, other) = (Store::open(data).await.unwrap(), Store::open(data).await.unwrap());
        let manifests = ManifestCache::new(1 << 20);
        let first = store.put_manifest(small()).await.unwrap().value;
        let id = first.id;

        // Put just now: the next change might bear the same time.
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
    async fn what_is_past_its_time_is_not_given() {
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
