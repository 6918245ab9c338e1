//! A manifest as readers hold it.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use crate::manifest::{Manifest, Placement};
use crate::object::key::{self, ShardKeys};
use crate::{Error, Shard, Stored};

/// Bytes of memory that a shard's names take, near enough.
const NAMES_WEIGHT: usize = 640;

/// A document's manifest, with what it says of each shard: worked out when first asked for, since a hot document is
/// asked for often.
#[derive(Debug)]
pub struct ResolvedManifest {
    stored: Stored<Manifest>,
    shards: Vec<OnceLock<ShardLocation>>,
}

/// Where a shard is.
#[derive(Clone, Debug)]
pub enum ShardLocation {
    /// In the manifest.
    Inline(Arc<Shard>),
    /// In objects of these names.
    Objects(ShardKeys),
}

impl ResolvedManifest {
    pub fn new(stored: Stored<Manifest>) -> Self {
        let shards = stored.value.shards.iter().map(|_| OnceLock::new()).collect();
        Self { stored, shards }
    }

    /// Where a shard of the document is.
    pub fn location(&self, shard: usize) -> Result<&ShardLocation, Error> {
        let known = &self.shards[shard];
        if let Some(whereabouts) = known.get() {
            return Ok(whereabouts);
        }
        let manifest = &self.stored.value;
        let entry = &manifest.shards[shard];
        let whereabouts = match (manifest.inline_shard(entry), manifest.names(entry)) {
            (Some(shard), _) => ShardLocation::Inline(Arc::new(shard?)),
            (None, Some(names)) => ShardLocation::Objects(names),
            (None, None) => {
                let object = key::manifest(manifest.id, manifest.version);
                return Err(Error::damaged(&object, "it does not say where its shards are"));
            }
        };
        Ok(known.get_or_init(|| whereabouts))
    }

    /// Bytes of memory that it takes once all of it was asked for, near enough.
    pub fn weight(&self) -> usize {
        let of = |placement: &Placement| match placement {
            // Decoded they take about what they take encoded.
            Placement::Inline { latents, corrections } => {
                latents.len() + corrections.as_ref().map_or(0, bytes::Bytes::len)
            }
            Placement::Objects { .. } => NAMES_WEIGHT,
        };
        let shards = self.stored.value.shards.iter();
        self.stored.value.weight()
            + shards.map(|entry| size_of::<OnceLock<ShardLocation>>() + of(&entry.placement)).sum::<usize>()
    }
}

impl Deref for ResolvedManifest {
    type Target = Stored<Manifest>;

    fn deref(&self) -> &Stored<Manifest> {
        &self.stored
    }
}
