//! What is durable: manifests, latents and corrections. Never a text.
//!
//! [`layout`] names the objects by [`stamp`], [`seal`] proves them and [`objects`] moves them to a [`backend`]; [`manifest`] and [`shard`]
//! are what they hold; [`trouble`] is why they cannot be had. [`documents`] are found as objects by themselves or in a
//! [`pack`], which [`packs`] knows and [`group`] writes; [`shards`] in their newest generation. [`uploads`] are puts that
//! can be taken up. What changes is a [`cell`]: [`names`] are, and labels; [`cell_upkeep`] sweeps and checks them.
//! [`sweep`] removes what nothing refers to, by way of [`condemned`] lists; [`merge`] makes new packs of old documents, and
//! [`check`] reads everything. [`signs`] tell whether a manifest that was kept still counts. docs/store.md tells the formats
//! and why it is safe.

pub(crate) mod backend;
pub(crate) mod cell;
mod cell_upkeep;
mod certain;
pub(crate) mod check;
mod coding;
pub(crate) mod condemned;
pub(crate) mod documents;
pub(crate) mod group;
pub(crate) mod layout;
pub(crate) mod manifest;
mod mark;
mod merge;
pub(crate) mod names;
pub(crate) mod objects;
mod pack;
mod packs;
mod seal;
pub(crate) mod shard;
pub(crate) mod shards;
pub(crate) mod signs;
mod staging;
pub(crate) mod stamp;
pub(crate) mod sweep;
pub(crate) mod trouble;
pub(crate) mod uploads;

use std::ops::Range;
use std::sync::Arc;

use c3_proto::{Corrections, Invalid, LatentGroup, WindowHash};
use futures::TryStreamExt;
use object_store::path::Path;

use self::backend::BackendSettings;
use self::condemned::Condemned;
use self::group::{Group, PutUnderWay};
use self::layout::Name;
use self::objects::Objects;
pub(crate) use self::objects::StoreError;
use self::packs::Packs;
use self::shard::{ShardLatents, WindowCorrections};
use crate::error::Error;

/// The durable store.
pub(crate) struct Store {
    objects: Arc<Objects>,
    packs: Arc<Packs>,
    group: Group,
    condemned: Condemned,
}

/// Something stored, with the bytes that it takes.
#[derive(Clone, Debug)]
pub(crate) struct Stored<T> {
    pub(crate) value: T,
    pub(crate) bytes: u64,
}

/// A shard with all that a decoder needs of it.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    pub(crate) windows: Vec<ShardWindow>,
}

/// A window with all that a decoder needs of it.
#[derive(Clone, Debug)]
pub(crate) struct ShardWindow {
    /// Its bytes in the shard.
    pub(crate) bytes: Range<u32>,
    pub(crate) group: LatentGroup,
    pub(crate) hash: WindowHash,
    /// `None` where nobody verified it.
    pub(crate) corrections: Option<Corrections>,
}

impl Store {
    /// Opens the folder or the store at an address, and proves that it can be written.
    pub(crate) async fn open(backend: impl Into<BackendSettings>) -> Result<Self, Error> {
        let objects = Arc::new(Objects::open(&backend.into()).await?);
        let packs = Arc::new(Packs::new(Arc::clone(&objects)));
        let group = Group::start(Arc::clone(&objects), Arc::clone(&packs));
        Ok(Self { condemned: Condemned::new(Arc::clone(&objects)), objects, packs, group })
    }

    /// How many objects there are, and their bytes.
    pub(crate) async fn size(&self) -> Result<(u64, u64), StoreError> {
        let root = Path::default();
        let objects = self.objects.list(&root, &root);
        objects.try_fold((0, 0), async |(count, bytes), object| Ok((count + 1, bytes + object.size))).await
    }

    /// A put begins: small documents that are put at the same time are stored together.
    pub(crate) fn begin_put(&self) -> PutUnderWay {
        self.group.begin()
    }
}

impl Shard {
    /// Latents with their corrections, where there are any.
    pub(crate) fn new(latents: ShardLatents, corrections: Option<Vec<WindowCorrections>>) -> Self {
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
    pub(crate) fn weight(&self) -> usize {
        let of = |window: &ShardWindow| {
            let corrections = window.corrections.as_ref().map_or(0, |of| size_of_val(of.as_slice()));
            size_of::<ShardWindow>() + window.group.data().len() + corrections
        };
        self.windows.iter().map(of).sum()
    }
}

fn damaged(name: &Name, invalid: &Invalid) -> StoreError {
    StoreError::damaged(name, invalid.to_string())
}

#[cfg(test)]
mod tests;
