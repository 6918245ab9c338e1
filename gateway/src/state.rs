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
use crate::single_flight::SingleFlight;

/// Shards of one text in flight per node: one or two are computed, the others wait for it or for the other stage.
const SHARDS_PER_NODE: usize = 4;

/// The gateway's state. Everything durable is in the store.
pub(crate) struct Gateway {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) cache: ShardCache,
    pub(crate) manifests: ManifestCache,
    pub(crate) router: Router,
    /// Shards being written, so that equal shards are computed once.
    pub(crate) shard_writes: SingleFlight<(ShardKeyPrefixes, Placing), Result<WrittenShard, Error>>,
    /// Windows being decoded, by document, version of its manifest and window number.
    pub(crate) window_reads: SingleFlight<(DocumentId, Version, u64), Result<DecodedWindow, Error>>,
    pub(crate) metrics: Metrics,
    /// Held during garbage collection: one runs at a time.
    pub(crate) gc_lock: tokio::sync::Mutex<()>,
}

/// Handle on the gateway's state, which all requests share.
pub(crate) type SharedGateway = Arc<Gateway>;

/// Location of a written shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Placing {
    /// In objects of its own, which documents share.
    Shared,
    /// In the manifest of the document that consists of it, if it is small enough.
    Inline,
}

/// A shard that is durable.
#[derive(Clone, Debug)]
pub(crate) struct WrittenShard {
    /// Its entry in the manifest.
    pub(crate) entry: ShardEntry,
    /// The store already had it, so no model was called.
    pub(crate) reused: bool,
    pub(crate) times: StageTimes,
}

/// The text of a window, verified by its hash.
#[derive(Clone, Debug)]
pub(crate) struct DecodedWindow {
    pub(crate) text: Bytes,
    pub(crate) tokens: u64,
}

impl Gateway {
    /// Returns the maximum number of shards of one text in flight: enough to keep the nodes busy, and no more, since
    /// shards in flight are lost when a put is interrupted.
    pub(crate) fn shards_in_flight(&self) -> usize {
        let ready = self.router.nodes().iter().filter(|node| node.is_ready()).count();
        self.config.shards_in_flight.min(SHARDS_PER_NODE * ready.max(1))
    }
}
