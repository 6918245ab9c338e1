//! The durable store: manifests, latents and corrections on `object_store`, and cache tiers in front of it.
//!
//! It never holds a text. Objects are created and deleted, never replaced; a change is a new object under a new version.
//!
//! - [`object`]: keys, the checksummed envelope, backends, idempotent writes.
//! - [`shard`], [`manifest`]: the payloads. [`documents`]: the current version of a document, wherever it lies.
//! - [`pack`]: many small manifests in one object. [`register`]: names and labels, changed by compare-and-set.
//! - [`upload_session`]: interrupted puts that can be resumed.
//! - [`gc`]: mark and sweep. [`fsck`]: reads everything and reports damage.
//! - [`cache`]: memory and Redis tiers, and manifests kept in memory with a validator.

pub mod cache;
mod documents;
mod error;
pub mod fsck;
mod gc;
pub mod manifest;
mod metrics;
pub mod object;
mod pack;
mod payload;
pub mod register;
pub mod shard;
pub mod upload_session;

use std::ops::Range;
use std::sync::Arc;

use c3_types::{Corrections, LatentGroup, WindowCorrections, WindowHash};
use futures::TryStreamExt;
use object_store::path::Path;

pub use self::error::{Error, OpenError};
use self::gc::pending_deletes::PendingDeletes;
pub use self::metrics::Metrics;
use self::object::Objects;
pub use self::object::backend::{BackendSettings, CloudSettings};
use self::pack::group_commit::{GroupCommit, PutInProgress};
use self::pack::index::PackIndex;
use self::shard::ShardLatents;

/// The durable store.
pub struct Store {
    objects: Arc<Objects>,
    packs: Arc<PackIndex>,
    group: GroupCommit,
    pending_deletes: PendingDeletes,
}

/// Something stored, with the bytes that it takes.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    pub value: T,
    pub bytes: u64,
}

/// A shard with all that a decoder needs of it.
#[derive(Clone, Debug)]
pub struct Shard {
    pub windows: Vec<ShardWindow>,
}

/// A window with all that a decoder needs of it.
#[derive(Clone, Debug)]
pub struct ShardWindow {
    /// Its bytes in the shard.
    pub bytes: Range<u32>,
    pub group: LatentGroup,
    pub hash: WindowHash,
    /// `None` where nobody verified it.
    pub corrections: Option<Corrections>,
}

impl Store {
    /// Opens the folder or the store at an address, and proves that it can be written.
    pub async fn open(backend: impl Into<BackendSettings>) -> Result<Self, OpenError> {
        let objects = Arc::new(Objects::open(&backend.into()).await?);
        let packs = Arc::new(PackIndex::new(Arc::clone(&objects)));
        let group = GroupCommit::start(Arc::clone(&objects), Arc::clone(&packs));
        Ok(Self { pending_deletes: PendingDeletes::new(Arc::clone(&objects)), objects, packs, group })
    }

    /// How many objects there are, and their bytes.
    pub async fn size(&self) -> Result<(u64, u64), Error> {
        let root = Path::default();
        let objects = self.objects.list(&root, &root);
        objects.try_fold((0, 0), async |(count, bytes), object| Ok((count + 1, bytes + object.size))).await
    }

    /// A put begins: small documents that are put at the same time are stored together.
    pub fn begin_put(&self) -> PutInProgress {
        self.group.begin()
    }
}

impl Shard {
    /// Latents with their corrections, where there are any.
    pub fn new(latents: ShardLatents, corrections: Option<Vec<WindowCorrections>>) -> Self {
        let mut corrections = corrections.map(Vec::into_iter);
        let windows = latents.windows.into_iter().map(|window| ShardWindow {
            bytes: window.bytes,
            group: window.group,
            hash: window.hash,
            corrections: corrections.as_mut().and_then(Iterator::next).map(|of| of.corrections),
        });
        Self { windows: windows.collect() }
    }

    /// Bytes of memory that it takes, near enough.
    pub fn weight(&self) -> usize {
        let of = |window: &ShardWindow| {
            let corrections = window.corrections.as_ref().map_or(0, |of| size_of_val(of.as_slice()));
            size_of::<ShardWindow>() + window.group.data().len() + corrections
        };
        self.windows.iter().map(of).sum()
    }
}

#[cfg(test)]
mod tests;
