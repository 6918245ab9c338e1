//! The durable store: manifests, latents and corrections on `object_store`, and cache tiers in front of it.
//!
//! A document's text is cut into *shards*, and a shard into *windows*. *Latents* are the compressed form of a window,
//! from which a decoder restores the text. *Corrections* are the tokens that the decoder would get wrong, or right only
//! by a thin margin. A *manifest* lists the shards of a document.
//!
//! The store contains no text. Objects are created and deleted, never changed: a change is a new object under a new
//! version. Only fsck overwrites an object: it restores a damaged tombstone.
//!
//! - [`Stores`]: the stores of all tenants, which share a backend and nothing else.
//! - `encryption`: master, data and name keys of encrypted stores.
//! - [`object`]: keys, the checksummed envelope, backends, idempotent writes.
//! - [`shard`], [`manifest`]: payloads of objects. `documents`: finds, writes and deletes documents.
//!   [`document_list`]: lists them.
//! - `pack`: many small manifests in one object. [`register`]: names and labels, changed by compare-and-set.
//! - [`upload_session`]: progress records of puts (writes of a document), from which an interrupted put is resumed.
//! - `reencryption`: encrypts a store in place, and rotates or destroys its keys. `usage`: space by purpose. `gc`: mark
//!   and sweep. [`fsck`]: reads all objects, and reports and repairs damage.
//! - [`search`]: the secret and the sketches of search.
//! - [`cache`]: memory and Redis tiers for shards, and a memory cache of manifests.

mod availability;
pub mod cache;
pub mod document_list;
mod documents;
mod encryption;
mod error;
pub mod fsck;
#[cfg(test)]
mod fuzz;
mod gc;
pub mod manifest;
mod metrics;
pub mod object;
mod pack;
mod payload;
mod reencryption;
pub mod register;
pub mod search;
pub mod shard;
mod stores;
pub mod upload_session;
mod usage;

use std::ops::Range;
use std::sync::Arc;

use c3_types::{Corrections, LatentGroup, WindowCorrections, WindowHash};

pub use self::availability::Unavailable;
pub use self::encryption::master::MasterKeySource;
pub use self::encryption::secret::Secret;
pub use self::error::{Error, OpenError};
use self::gc::pending_deletes::PendingDeletes;
pub use self::metrics::{Metrics, observe_file_system};
use self::object::Objects;
pub use self::object::Size;
pub use self::object::backend::{BackendSettings, CloudSettings};
use self::pack::group_commit::GroupCommit;
pub use self::pack::group_commit::PutInProgress;
use self::pack::index::PackIndex;
pub use self::reencryption::{EncryptMode, EncryptProgress, KeyStatus, Rotation};
use self::shard::ShardLatents;
pub use self::stores::Stores;
pub use self::usage::{References, Usage};

/// The durable store. Several gateways may use the same backend concurrently.
pub struct Store {
    objects: Arc<Objects>,
    packs: Arc<PackIndex>,
    group_commit: GroupCommit,
    pending_deletes: PendingDeletes,
}

/// A value read from the store, with its stored size.
#[derive(Clone, Debug)]
pub struct StoredObject<T> {
    /// The decoded value.
    pub value: T,
    /// Size in bytes of the object, or of the record in a pack, including the envelope.
    pub bytes: u64,
}

/// Everything that a decoder needs to reconstruct a shard.
#[derive(Clone, Debug)]
pub struct Shard {
    /// Windows in text order.
    pub windows: Vec<ShardWindow>,
}

/// Everything that a decoder needs to reconstruct a window.
#[derive(Clone, Debug)]
pub struct ShardWindow {
    /// Range of the window's text, in bytes from the start of the shard.
    pub bytes: Range<u32>,
    /// Latents of the window.
    pub group: LatentGroup,
    /// Hash of the window's text.
    pub hash: WindowHash,
    /// Corrections of the window; `None` if the document was stored without verification.
    pub corrections: Option<Corrections>,
}

impl Store {
    /// Opens a local folder, which is created if missing, or the object store at a URL. Fails if the store is not
    /// writable, but accepts a full store.
    pub async fn open(backend: impl Into<BackendSettings>) -> Result<Self, OpenError> {
        Ok(Self::new(Objects::open(&backend.into()).await?))
    }

    fn new(objects: Objects) -> Self {
        let objects = Arc::new(objects);
        let packs = Arc::new(PackIndex::new(Arc::clone(&objects)));
        let group_commit = GroupCommit::start(Arc::clone(&objects), Arc::clone(&packs));
        Self { pending_deletes: PendingDeletes::new(Arc::clone(&objects)), objects, packs, group_commit }
    }

    /// Measures all objects. Lists the whole store. Logs a warning if the number of foreign entries, which are not the
    /// store's, has changed since the last listing and is not zero.
    pub async fn size(&self) -> Result<Size, Error> {
        Ok(self.objects.survey().await?.objects)
    }

    /// Returns whether the keys of this store were destroyed, so that nothing in it can be read. An open store notices
    /// this after 15 seconds at most.
    pub fn is_shredded(&self) -> bool {
        self.objects.keys().is_destroyed()
    }

    /// Counts a put as in progress until the guard is dropped. The manifests of small documents from concurrent puts
    /// share an object, the *pack*.
    pub fn begin_put(&self) -> PutInProgress {
        self.group_commit.begin()
    }
}

impl Shard {
    /// Combines latents with the corrections of each window. `corrections` is `None` if the shard was not verified.
    pub fn new(latents: ShardLatents, corrections: Option<Vec<WindowCorrections>>) -> Self {
        let mut corrections = corrections.map(Vec::into_iter);
        let windows = latents.windows.into_iter().map(|window| ShardWindow {
            bytes: window.bytes,
            group: window.group,
            hash: window.hash,
            corrections: corrections.as_mut().and_then(Iterator::next).map(|window| window.corrections),
        });
        Self { windows: windows.collect() }
    }

    /// Returns the approximate memory use in bytes.
    pub fn weight(&self) -> usize {
        let window_weight = |window: &ShardWindow| {
            let corrections = window.corrections.as_ref().map_or(0, |some| size_of_val(some.as_slice()));
            size_of::<ShardWindow>() + window.group.data().len() + corrections
        };
        self.windows.iter().map(window_weight).sum()
    }
}

#[cfg(test)]
mod tests;
