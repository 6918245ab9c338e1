//! A manifest in memory, with the locations of its shards.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use crate::manifest::{Manifest, Placement};
use crate::object::key::{self, ShardKeys};
use crate::{Error, Shard, StoredObject};

/// Approximate memory use of the keys of a shard in bytes.
const KEYS_WEIGHT: usize = 640;

/// A manifest with the locations of its shards. Each location is resolved on first use and then kept.
#[derive(Debug)]
pub struct ResolvedManifest {
    stored: StoredObject<Manifest>,
    shards: Vec<OnceLock<ShardLocation>>,
}

/// Location of a shard.
#[derive(Clone, Debug)]
pub enum ShardLocation {
    /// The decoded shard, which was inline in the manifest.
    Inline(Arc<Shard>),
    /// The shard is in objects with these keys.
    Objects(ShardKeys),
}

impl ResolvedManifest {
    /// Wraps a manifest. Resolves no location yet.
    pub(crate) fn new(stored: StoredObject<Manifest>) -> Self {
        let shards = stored.value.shards.iter().map(|_| OnceLock::new()).collect();
        Self { stored, shards }
    }

    /// Returns the location of the shard with this index, from 0. Fails if an inline shard does not decode.
    pub fn location(&self, shard: usize) -> Result<&ShardLocation, Error> {
        let resolved = &self.shards[shard];
        if let Some(location) = resolved.get() {
            return Ok(location);
        }
        let manifest = &self.stored.value;
        let entry = &manifest.shards[shard];
        let location = match (manifest.inline_shard(entry), manifest.keys(entry)) {
            (Some(shard), _) => ShardLocation::Inline(Arc::new(shard?)),
            (None, Some(keys)) => ShardLocation::Objects(keys),
            (None, None) => {
                let object = key::manifest(manifest.id, manifest.version);
                return Err(Error::damaged(&object, "it does not give the location of a shard"));
            }
        };
        Ok(resolved.get_or_init(|| location))
    }

    /// Returns the approximate memory use in bytes once all locations are resolved.
    pub(crate) fn weight(&self) -> usize {
        let location_weight = |placement: &Placement| match placement {
            // A decoded shard takes about as much memory as its payloads.
            Placement::Inline { .. } => placement.inline_bytes(),
            Placement::Objects { .. } => KEYS_WEIGHT,
        };
        let shards = self.stored.value.shards.iter();
        let locations = shards.map(|entry| size_of::<OnceLock<ShardLocation>>() + location_weight(&entry.placement));
        self.stored.value.weight() + locations.sum::<usize>()
    }
}

impl Deref for ResolvedManifest {
    type Target = StoredObject<Manifest>;

    fn deref(&self) -> &StoredObject<Manifest> {
        &self.stored
    }
}
