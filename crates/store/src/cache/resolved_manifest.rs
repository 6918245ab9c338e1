//! A manifest as readers hold it.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use crate::store::layout::{self, ShardNames};
use crate::store::manifest::{Manifest, Place};
use crate::store::shards::inline_shard;
use crate::store::{Shard, StoreError, Stored};

/// Bytes of memory that a shard's names take, near enough.
const NAMES_WEIGHT: usize = 640;

/// A document's manifest, with what it says of each shard: worked out when first asked for, since a hot document is
/// asked for often.
#[derive(Debug)]
pub(crate) struct Found {
    stored: Stored<Manifest>,
    shards: Vec<OnceLock<Whereabouts>>,
}

/// Where a shard is.
#[derive(Clone, Debug)]
pub(crate) enum Whereabouts {
    /// In the manifest.
    Here(Arc<Shard>),
    /// In objects of these names.
    At(ShardNames),
}

impl Found {
    pub(crate) fn new(stored: Stored<Manifest>) -> Self {
        let shards = stored.value.shards.iter().map(|_| OnceLock::new()).collect();
        Self { stored, shards }
    }

    /// Where a shard of the document is.
    pub(crate) fn whereabouts(&self, shard: usize) -> Result<&Whereabouts, StoreError> {
        let known = &self.shards[shard];
        if let Some(whereabouts) = known.get() {
            return Ok(whereabouts);
        }
        let manifest = &self.stored.value;
        let entry = &manifest.shards[shard];
        let whereabouts = match (inline_shard(manifest, entry), manifest.names(entry)) {
            (Some(shard), _) => Whereabouts::Here(Arc::new(shard?)),
            (None, Some(names)) => Whereabouts::At(names),
            (None, None) => {
                let object = layout::manifest(manifest.id, manifest.version);
                return Err(StoreError::damaged(&object, "it does not say where its shards are"));
            }
        };
        Ok(known.get_or_init(|| whereabouts))
    }

    /// Bytes of memory that it takes once all of it was asked for, near enough.
    pub(crate) fn weight(&self) -> usize {
        let of = |place: &Place| match place {
            // Decoded they take about what they take encoded.
            Place::Inline { latents, corrections } => {
                latents.len() + corrections.as_ref().map_or(0, bytes::Bytes::len)
            }
            Place::Objects { .. } => NAMES_WEIGHT,
        };
        let shards = self.stored.value.shards.iter();
        self.stored.value.weight()
            + shards.map(|entry| size_of::<OnceLock<Whereabouts>>() + of(&entry.place)).sum::<usize>()
    }
}

impl Deref for Found {
    type Target = Stored<Manifest>;

    fn deref(&self) -> &Stored<Manifest> {
        &self.stored
    }
}
