//! The gateway: documents in, documents out.
//!
//! ```text
//!            ┌─ write/: text ─ chunker ─ shard by shard ─ nodes (compress, verify) ─ store ─ manifest
//! grpc ──────┤
//! (converts) └─ read/:  manifest ─ windows in range ─ cache, store ─ nodes (decode) ─ hash ─ text
//! ```
//!
//! - [`mod@write`], [`read`]: the pipelines, from a stream to a stream. What belongs to neither is in [`gateway`],
//!   [`list`], [`names`] and [`totals`].
//! - [`chunker`], [`text`], [`mod@hash`]: where a text is cut, what makes it one, and its hash, which can go on.
//! - [`store`]: what is durable, sealed by checksums. [`cache`]: what of it is nearer, in memory or in Redis.
//! - [`nodes`]: which node is asked, and what happens when it fails.
//! - [`flight`], [`task`]: work done once, and work that outlasts a slow caller and not a gone one.
//!
//! It holds no truth that is not in the store, and neither holds the text itself. It knows nothing of the network in
//! the nodes: latents are bytes with a shape.

mod announcements;
mod cache;
mod chunker;
mod config;
mod error;
mod flight;
mod gateway;
mod grpc;
mod hash;
mod list;
mod metrics;
mod names;
mod nodes;
mod read;
mod store;
mod task;
mod text;
mod totals;
mod write;

use std::sync::Arc;
use std::time::Duration;

use c3_proto::limits::MESSAGE_BYTES_MAX;
use c3_proto::pb::gateway_server::GatewayServer;
use c3_proto::pb::registry_server::RegistryServer;
use c3_server::caller::Callers;
use c3_server::{Readiness, Server, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;

pub use config::{CloudSettings, Config};
pub use error::Error;

use crate::announcements::Announcements;
use crate::cache::{Manifests, ShardCache};
use crate::gateway::Gateway;
use crate::grpc::Grpc;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::read::document::Reads;
use crate::store::Store;
use crate::write::shard::Flights;

/// The gateway's name in logs, metrics and traces.
pub const ROLE: &str = "gateway";

/// The part of the memory for latents that manifests may take: one over this.
const MANIFESTS_PART: u64 = 8;

/// Serves until `shutdown` is cancelled and the calls in flight have ended, or their time to drain is over.
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
    config.check()?;
    let metrics = Metrics::new();
    let store = Store::open(config.backend()).await?;
    // Nodes are watched until the last call has ended, not only until the drain begins.
    let watching = CancellationToken::new();
    let _stop_watching = watching.clone().drop_guard();
    let nodes =
        Nodes::watch(&config.compressors(), &config.decoders(), config.calls(), metrics.clone(), &watching)?;
    let manifests = config.cache_bytes / MANIFESTS_PART;
    let gateway = Arc::new(Gateway {
        cache: ShardCache::new(config.cache_bytes - manifests, config.redis()?, metrics.clone()),
        manifests: Manifests::new(manifests),
        flights: Flights::new(),
        reads: Reads::new(),
        store,
        nodes,
        metrics,
        config: config.clone(),
        sweeping: tokio::sync::Mutex::default(),
    });
    let every = Duration::from_secs(config.sweep_every_s);
    // Ends with the program: a sweep that is cut short at any instant loses nothing.
    let _sweeping = (!every.is_zero())
        .then(|| AbortOnDropHandle::new(tokio::spawn(Arc::clone(&gateway).keep_sweeping(every))));
    let readiness = Readiness::default();
    readiness.set_ready();
    let service = GatewayServer::new(Grpc::new(Arc::clone(&gateway)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let more = if config.accept_nodes {
        Routes::new(RegistryServer::new(Announcements::new(gateway)))
    } else {
        Routes::default()
    };
    let server = Server {
        role: ROLE,
        service,
        more,
        readiness,
        callers: Callers::Connections,
        // A large text takes as long as it takes; each call on a node has its time-out.
        call_timeout: None,
        args: config.server,
    };
    serve(server, listener, shutdown).await.map_err(|error| Error::Serve(error.to_string()))
}
