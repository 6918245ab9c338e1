//! The gateway: stores documents as latents and reads them back.
//!
//! ```text
//!            ┌─ ingest: text ▸ chunker ▸ shards ▸ nodes (compress, verify) ▸ store ▸ manifest
//! api/grpc ──┼─ read:   manifest ▸ windows in range ▸ cache, store ▸ nodes (decode) ▸ hash ▸ text
//! (converts) ├─ documents: find, list, delete, names, labels, totals, garbage collection
//!            └─ search: sketches of windows ▸ index ▸ windows
//! ```
//!
//! A *shard* is a part of a text that is compressed as a unit. A *window* is the part of a shard for which one group of
//! latents stands.
//!
//! All durable state is in the store. Neither the store nor the caches contain text. The gateway does not depend on the
//! neural network that the nodes run: it treats latents as bytes with a shape.

mod access;
mod api;
mod config;
mod cursor;
mod documents;
mod error;
mod ingest;
mod metrics;
mod name_lists;
mod read;
mod reindex_slot;
mod search;
mod search_index;
mod single_flight;
mod sketches;
mod spawn;
mod state;
mod tenants;
#[cfg(test)]
mod test_data;

use std::sync::Arc;

use c3_routing::Router;
use c3_server::principal::PrincipalSource;
use c3_server::{ClientAuth, Readiness, Server, StageHealth, WebAccess, in_process, serve};
use c3_store::Stores;
use c3_types::Stage;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use access::AccessArgs;
pub use config::{Config, master_key};
pub use error::StartError;

use crate::metrics::Metrics;
use crate::tenants::{SharedParts, Tenants};

/// Name of the gateway in logs, metrics and traces.
pub const ROLE: &str = "gateway";

/// gRPC health services in addition to that of the whole gateway. Each covers the calls that need ready nodes of these
/// stages.
const HEALTH_SERVICES: [(&str, &[Stage]); 2] =
    [("c3.v1.Gateway/write", &Stage::ALL), ("c3.v1.Gateway/read", &[Stage::Decoder])];

/// Serves until `shutdown` is cancelled. Then waits for the calls in flight, at most for the drain timeout.
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> Result<(), StartError> {
    config.check()?;
    let credentials =
        config.server.tls.load(ClientAuth::Optional).map_err(|error| StartError::Tls(error.to_string()))?;
    let stores = Stores::open(config.backend()).await?;
    if let Some(folder) = stores.folder() {
        c3_store::observe_file_system(&c3_server::metrics::meter(), ROLE, folder);
    }
    let (control, access) = config.access.start()?.unzip();
    // Discovery and health checks of nodes continue during the drain, because calls in flight still need nodes.
    let stop_watching = CancellationToken::new();
    let _stop_watching = stop_watching.clone().drop_guard();
    // Reindex jobs end when the shutdown begins, so that the decoders serve only the calls in flight.
    let stop_jobs = shutdown.child_token();
    let _stop_jobs = stop_jobs.clone().drop_guard();
    let tenants = Arc::new(Tenants::new(SharedParts {
        router: Router::start(config.routing(credentials.clone()), ROLE, &stop_watching)?,
        redis: config.redis()?,
        metrics: Metrics::new(c3_store::Metrics::new(&c3_server::metrics::meter(), ROLE)),
        config: config.clone(),
        control,
        stores,
        stop_jobs,
    }));
    // The tasks are aborted when the server stops. This is safe: garbage collection may be interrupted at any point.
    let maintenance = Arc::clone(&tenants).maintain(config.gc_interval.0);
    let _maintenance = AbortOnDropHandle::new(tokio::spawn(maintenance));
    let _measurements = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&tenants).measure_quotas()));
    let readiness = Readiness::default();
    readiness.set_ready();
    let stages = StageHealth { unready: tenants.router.unready_stages(), services: &HEALTH_SERVICES };
    let (to_itself, in_process) = in_process();
    let mcp = c3_mcp::http(&to_itself, shutdown.clone());
    let server = Server {
        role: ROLE,
        service_name: api::grpc::SERVICE_NAME,
        other_services: if config.accept_nodes { &[api::grpc::REGISTRY_NAME] } else { &[] },
        routes: api::grpc::routes(Arc::clone(&tenants)).merge(api::http::routes(tenants, mcp)),
        probe_paths: &[],
        readiness,
        stages: Some(stages),
        principal_source: PrincipalSource::Connection,
        in_process: Some(in_process),
        // A put or get of a long text may take arbitrarily long. Each call on a node has its own timeout.
        call_timeout: None,
        authenticates: access.is_some() || credentials.requires_clients(),
        credentials,
        // Any client with a valid certificate may call. The identity of each is in the request's extensions.
        peers: None,
        web_access: WebAccess::new(&config.allowed_hosts, &config.cors_origins),
        access,
        args: config.server,
    };
    serve(server, listener, shutdown).await.map_err(|error| StartError::Serve(error.to_string()))
}
