//! The state of a tenant, which its requests share. A *shard* is a part of a text that is compressed as a unit; a
//! *window* is a part of a shard that is decoded as a unit.

use std::sync::Arc;

use bytes::Bytes;
use c3_access::TenantQuotas;
use c3_routing::{RequestClass, Router};
use c3_store::Store;
use c3_store::cache::{ManifestCache, ShardCache};
use c3_store::manifest::ShardEntry;
use c3_store::object::key::ShardKeyPrefixes;
use c3_store::object::version::Version;
use c3_types::{DocumentId, Stage, StageTimes};

use crate::config::Config;
use crate::error::Error;
use crate::metrics::{Direction, Metrics};
use crate::name_lists::NameLists;
use crate::reindex_slot::ReindexSlot;
use crate::search_index::TenantSearch;
use crate::single_flight::SingleFlight;

/// Minimum shards of one text in flight per ready node, however small its batches are. A node computes one or two of
/// them; the others wait for a compressor or a decoder.
const SHARDS_PER_NODE: usize = 4;
/// Maximum shards of one text in flight that small batches alone justify: enough for the current and the next batch of
/// two compressors and two decoders on CPUs.
const SHARDS_OF_SMALL_BATCHES: usize = 32;
/// Text tokens of an average shard, and of a window of the default model at ratio 20 (text tokens per latent).
const SHARD_TOKENS: u64 = 2500;
const WINDOW_TOKENS: u64 = 640;
/// Minimum windows that are decoded ahead of a caller.
const LOOK_AHEAD_MIN: usize = 32;

/// The gateway's state for one tenant. All durable state is in the store. Tenants share only `config` and `router`.
pub(crate) struct Gateway {
    pub(crate) config: Arc<Config>,
    /// Memory of all caches of the tenant, in bytes.
    pub(crate) cache_bytes: u64,
    /// `None` without access control.
    pub(crate) quotas: Option<Arc<TenantQuotas>>,
    pub(crate) store: Store,
    pub(crate) cache: ShardCache,
    pub(crate) manifests: ManifestCache,
    pub(crate) name_lists: NameLists,
    pub(crate) search: TenantSearch,
    pub(crate) reindex: Arc<ReindexSlot>,
    pub(crate) router: Arc<Router>,
    /// Shards being written. Concurrent writes of equal shards share one computation.
    pub(crate) shard_writes: SingleFlight<(ShardKeyPrefixes, Placing), Result<WrittenShard, Error>>,
    /// Windows being decoded, by document, version of the manifest, and index of the window in the document.
    pub(crate) window_reads: SingleFlight<(DocumentId, Version, u64), Result<DecodedWindow, Error>>,
    pub(crate) metrics: Metrics,
    /// Locked during garbage collection, so that only one run is active.
    pub(crate) gc_lock: tokio::sync::Mutex<()>,
}

/// Handle on a tenant's state, which all its requests share.
pub(crate) type SharedGateway = Arc<Gateway>;

/// Requested location of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Placing {
    /// In separate objects, which documents can share.
    Shared,
    /// In the document's manifest, for the only shard of a document. A shard that is too large gets objects instead.
    Inline,
}

/// A written shard. Its data is durable, or else inline in `entry`. Inline data becomes durable with the manifest that
/// contains the entry.
#[derive(Clone, Debug)]
pub(crate) struct WrittenShard {
    /// Entry of the shard for a manifest.
    pub(crate) entry: ShardEntry,
    /// True if the store already had the shard, so that no node was called.
    pub(crate) reused: bool,
    pub(crate) times: StageTimes,
}

/// Text of a window, which matches the window's hash.
#[derive(Clone, Debug)]
pub(crate) struct DecodedWindow {
    pub(crate) text: Bytes,
    pub(crate) tokens: u64,
    /// Positions of the tokens that were forced by corrections.
    pub(crate) corrected: Arc<[u32]>,
}

impl Gateway {
    /// Refuses a request if too many text tokens wait for nodes, or the tenant's tokens per minute are used up. Writes
    /// are refused earlier than reads, and background work earlier than writes.
    pub(crate) fn admit(&self, class: RequestClass) -> Result<(), Error> {
        let check = |quotas: &Arc<TenantQuotas>| match class {
            RequestClass::Read | RequestClass::Write => quotas.check_tokens(),
            RequestClass::Background => quotas.check_spare_tokens(),
        };
        self.quotas.as_ref().map_or(Ok(()), check)?;
        Ok(self.router.admit(class)?)
    }

    /// Refuses a write if the tenant's store is full.
    pub(crate) fn check_stored(&self) -> Result<(), Error> {
        Ok(self.quotas.as_ref().map_or(Ok(()), |quotas| quotas.check_stored())?)
    }

    /// Counts a document's objects that were written, until the store is measured again.
    pub(crate) fn count_stored(&self, bytes: u64) {
        if let Some(quotas) = &self.quotas {
            quotas.wrote(bytes);
        }
    }

    /// Counts text that was stored, compressed or read, and charges its tokens to the tenant.
    pub(crate) fn count_text(&self, direction: Direction, bytes: u64, tokens: u64) {
        self.metrics.text(direction, bytes, tokens);
        if let Some(quotas) = &self.quotas {
            quotas.charge_tokens(tokens);
        }
    }

    /// Returns the maximum number of shards of one text in flight. This number is just high enough to keep the ready
    /// nodes busy, because an interrupted put has to repeat all shards that were in flight.
    pub(crate) fn shards_in_flight(&self) -> usize {
        let ready = self.router.nodes().into_iter().filter(|node| node.is_ready());
        let tokens = Vec::from_iter(ready.map(|node| node.tokens_to_saturate()));
        let for_batches = (tokens.iter().sum::<u64>() / SHARD_TOKENS) as usize;
        let for_nodes = (SHARDS_PER_NODE * tokens.len().max(1)).min(SHARDS_OF_SMALL_BATCHES);
        for_batches.max(for_nodes).min(self.config.shards_in_flight.unwrap_or(usize::MAX))
    }

    /// Returns the maximum number of windows of one text that are decoded ahead of the caller: just enough to keep the
    /// ready decoders busy.
    pub(crate) fn look_ahead(&self) -> usize {
        let nodes = self.router.nodes().into_iter();
        let decoders = nodes.filter(|node| node.stage() == Stage::Decoder && node.is_ready());
        let tokens: u64 = decoders.map(|node| node.tokens_to_saturate()).sum();
        self.config.look_ahead.unwrap_or(LOOK_AHEAD_MIN.max((tokens / WINDOW_TOKENS) as usize))
    }
}
