//! The gateway: stores documents as latents and reads them back.
//!
//! ```text
//!            ┌─ ingest: text ▸ chunker ▸ shards ▸ nodes (compress, verify) ▸ store ▸ manifest
//! api/grpc ──┼─ read:   manifest ▸ windows in range ▸ cache, store ▸ nodes (decode) ▸ hash ▸ text
//! (converts) └─ documents: find, list, delete, names, labels, totals, garbage collection
//! ```
//!
//! A *shard* is a part of a text that is compressed as a unit. A *window* is the part of a shard for which one group of
//! latents stands.
//!
//! All durable state is in the store. Neither the store nor the caches contain text. The gateway does not depend on the
//! neural network that the nodes run: it treats latents as bytes with a shape.

mod api;
mod config;
mod documents;
mod error;
mod ingest;
mod metrics;
mod name_lists;
mod read;
mod single_flight;
mod spawn;
mod state;
#[cfg(test)]
mod test_data;

use std::sync::Arc;

use c3_routing::Router;
use c3_server::principal::PrincipalSource;
use c3_server::{ClientAuth, Readiness, Server, StageHealth, WebAccess, serve};
use c3_store::Store;
use c3_store::cache::{ManifestCache, ShardCache};
use c3_types::Stage;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use config::Config;
pub use error::StartError;

use crate::metrics::Metrics;
use crate::name_lists::name_lists;
use crate::single_flight::SingleFlight;
use crate::state::Gateway;

/// Name of the gateway in logs, metrics and traces.
pub const ROLE: &str = "gateway";

/// gRPC health services in addition to that of the whole gateway. Each covers the calls that need ready nodes of these
/// stages.
const HEALTH_SERVICES: [(&str, &[Stage]); 2] =
    [("c3.v1.Gateway/write", &Stage::ALL), ("c3.v1.Gateway/read", &[Stage::Decoder])];

/// The cache of manifests gets the configured cache memory divided by this number; the cache of shards gets the rest.
const MANIFEST_CACHE_DIVISOR: u64 = 8;

/// Serves until `shutdown` is cancelled. Then waits for the calls in flight, at most for the drain timeout.
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> Result<(), StartError> {
    config.check()?;
    let credentials =
        config.server.tls.load(ClientAuth::Optional).map_err(|error| StartError::Tls(error.to_string()))?;
    let store = Store::open(config.backend()).await?;
    // Discovery and health checks of nodes continue during the drain, because calls in flight still need nodes.
    let stop_watching = CancellationToken::new();
    let _stop_watching = stop_watching.clone().drop_guard();
    let store_metrics = c3_store::Metrics::new(&c3_server::metrics::meter(), ROLE);
    let manifest_bytes = config.cache_size.0 / MANIFEST_CACHE_DIVISOR;
    let gateway = Arc::new(Gateway {
        cache: ShardCache::new(config.cache_size.0 - manifest_bytes, config.redis()?, store_metrics.clone()),
        manifests: ManifestCache::new(manifest_bytes),
        name_lists: name_lists(),
        router: Router::start(config.routing(credentials.clone()), ROLE, &stop_watching)?,
        shard_writes: SingleFlight::new(),
        window_reads: SingleFlight::new(),
        store,
        metrics: Metrics::new(store_metrics),
        config: config.clone(),
        gc_lock: tokio::sync::Mutex::default(),
    });
    // The task is aborted when the server stops. This is safe: garbage collection may be interrupted at any point.
    let maintenance = Arc::clone(&gateway).maintain(config.gc_interval.0);
    let _maintenance = AbortOnDropHandle::new(tokio::spawn(maintenance));
    let readiness = Readiness::default();
    readiness.set_ready();
    let stages = StageHealth { unready: gateway.router.unready_stages(), services: &HEALTH_SERVICES };
    let server = Server {
        role: ROLE,
        service_name: api::grpc::SERVICE_NAME,
        other_services: if config.accept_nodes { &[api::grpc::REGISTRY_NAME] } else { &[] },
        routes: api::grpc::routes(Arc::clone(&gateway)).merge(api::http::routes(gateway)),
        probe_paths: &[],
        readiness,
        stages: Some(stages),
        principal_source: PrincipalSource::Connection,
        // A put or get of a long text may take arbitrarily long. Each call on a node has its own timeout.
        call_timeout: None,
        authenticates: credentials.requires_clients(),
        credentials,
        // Any client with a valid certificate may call. The identity of each is in the request's extensions.
        peers: None,
        web_access: WebAccess::new(&config.allowed_hosts, &config.cors_origins),
        args: config.server,
    };
    serve(server, listener, shutdown).await.map_err(|error| StartError::Serve(error.to_string()))
}
