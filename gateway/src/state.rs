//! The state that requests share.

use std::sync::Arc;

use bytes::Bytes;
use c3_routing::Router;
use c3_store::Store;
use c3_store::cache::{ManifestCache, ShardCache};
use c3_store::manifest::ShardEntry;
use c3_store::object::key::ShardKeyPrefixes;
use c3_store::object::version::Version;
use c3_types::{DocumentId, StageTimes};

use crate::config::Config;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::name_lists::NameLists;
use crate::single_flight::SingleFlight;

/// Maximum shards of one text in flight per ready node. One or two are computed, the others wait for either stage.
const SHARDS_PER_NODE: usize = 4;

/// The gateway's state. All durable state is in the store.
pub(crate) struct Gateway {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) cache: ShardCache,
    pub(crate) manifests: ManifestCache,
    pub(crate) name_lists: NameLists,
    pub(crate) router: Router,
    /// Shards being written. Concurrent writes of equal shards share one computation.
    pub(crate) shard_writes: SingleFlight<(ShardKeyPrefixes, Placing), Result<WrittenShard, Error>>,
    /// Windows being decoded, by document, version of its manifest and index of the window in the document.
    pub(crate) window_reads: SingleFlight<(DocumentId, Version, u64), Result<DecodedWindow, Error>>,
    pub(crate) metrics: Metrics,
    /// Locked during garbage collection, so that only one run is active.
    pub(crate) gc_lock: tokio::sync::Mutex<()>,
}

/// Handle on the gateway's state, which all requests share.
pub(crate) type SharedGateway = Arc<Gateway>;

/// Requested location of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Placing {
    /// In separate objects, which documents can share.
    Shared,
    /// In the document's manifest, for the only shard of a document. A shard that is too large gets objects instead.
    Inline,
}

/// A written shard. Its data is durable, or inline in `entry` and durable only once a manifest with it is stored.
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
}

impl Gateway {
    /// Returns the maximum number of shards of one text in flight. It is just enough to keep the ready nodes busy,
    /// because an interrupted put has to repeat its shards in flight.
    pub(crate) fn shards_in_flight(&self) -> usize {
        let ready = self.router.nodes().iter().filter(|node| node.is_ready()).count();
        self.config.shards_in_flight.min(SHARDS_PER_NODE * ready.max(1))
    }
}
