//! Serves the routes of a role, with call layer, health, reflection, metrics and graceful drain.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use axum::{Router, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use c3_proto::pb;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::server::TcpIncoming};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    Readiness,
    admission::Admission,
    call_layer::CallLayer,
    metrics::{self, Metrics},
    principal::PrincipalSource,
    readiness::Phase,
    units::TimeSpan,
};

/// Maximum time after the drain timeout for calls that are cut off to report the error to their callers.
const CUT_OFF_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval of HTTP/2 keepalive pings on an idle connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// Time to answer a keepalive ping, after which the connection closes and releases its permits.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings that every server has.
#[derive(clap::Args, Clone, Debug)]
pub struct ServerArgs {
    /// Time between reporting a shutdown to health checks and refusing calls, for load balancers to switch to other
    /// servers
    #[arg(long, env = "C3_SHUTDOWN_DELAY", value_name = "DURATION", default_value_t = Self::default().shutdown_delay)]
    pub shutdown_delay: TimeSpan,
    /// Time after the shutdown delay until calls still in flight are cut off
    #[arg(long, env = "C3_DRAIN_TIMEOUT", value_name = "DURATION", default_value_t = Self::default().drain_timeout)]
    pub drain_timeout: TimeSpan,
    /// Maximum number of concurrent calls; further calls are refused with RESOURCE_EXHAUSTED
    #[arg(long, env = "C3_CALLS_MAX", value_name = "CALLS", default_value_t = Self::default().calls_max)]
    pub calls_max: u32,
    /// Threads that serve calls; each keeps a few megabytes [default: one per core, at most 8]
    #[arg(long, env = "C3_IO_THREADS", value_name = "THREADS")]
    pub io_threads: Option<NonZeroUsize>,
}

impl Default for ServerArgs {
    fn default() -> Self {
        // The shutdown delay exceeds the 500 ms between two probes by a gateway.
        Self {
            shutdown_delay: TimeSpan::from_millis(700),
            drain_timeout: TimeSpan::from_secs(20),
            calls_max: 1024,
            io_threads: None,
        }
    }
}

/// A server before it serves.
#[derive(Debug)]
pub struct Server {
    /// Role in logs and metrics.
    pub role: &'static str,
    /// gRPC service whose health is reported in addition to that of the whole server.
    pub service_name: &'static str,
    /// The role's routes, gRPC and HTTP. Set gRPC message size limits on the generated services.
    pub routes: Router,
    /// Paths of cheap calls with which load balancers probe the server. They are not refused under load.
    pub probe_paths: &'static [&'static str],
    /// Lifecycle of the server.
    pub readiness: Readiness,
    /// Source of the principals of calls.
    pub principal_source: PrincipalSource,
    /// Maximum duration of a call; `None` for no limit.
    pub call_timeout: Option<Duration>,
    /// Settings that every server has.
    pub args: ServerArgs,
}

/// Error that keeps a server from starting, or stops it without a shutdown request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener has no address.
    #[error("cannot read the listener's address: {0}")]
    Listener(#[from] std::io::Error),
    /// The reflection service rejected our descriptors.
    #[error("cannot offer reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("cannot serve: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves until `shutdown` is cancelled. Then announces the shutdown, serves for the shutdown delay, refuses new calls,
/// and waits for calls in flight up to the drain timeout.
pub async fn serve(server: Server, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
    let (role, readiness, args) = (server.role, server.readiness.clone(), server.args.clone());
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        tracing::warn!(role, %address, "listening beyond this machine without TLS or authentication");
    }
    let mut health = Health::new(server.service_name).await;
    let routes = routes(server, &health)?;
    let closing = CancellationToken::new();
    let serving = tonic::transport::Server::builder()
        // Prometheus scrapes over HTTP/1.1.
        .accept_http1(true)
        // Without keepalive, a caller whose machine died would keep its permits for ever.
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        // A connection may use all permits, but cannot queue further calls.
        .max_concurrent_streams(args.calls_max)
        .serve_with_incoming_shutdown(
            routes,
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            closing.clone().cancelled_owned(),
        );
    tokio::pin!(serving);
    tracing::info!(role, %address, "listening");
    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        () = health.follow(&readiness) => {}
        () = shutdown.cancelled() => {}
    }
    // Health changes first, so that load balancers choose another server before calls are refused and connections
    // close.
    readiness.set_shutdown_announced();
    health.close().await;
    let ServerArgs { shutdown_delay, drain_timeout, .. } = args;
    tracing::info!(role, %shutdown_delay, %drain_timeout, "draining");
    if let Ok(ended) = tokio::time::timeout(shutdown_delay.0, &mut serving).await {
        return Ok(ended?);
    }
    readiness.set_draining();
    closing.cancel();
    if let Ok(ended) = tokio::time::timeout(drain_timeout.0, &mut serving).await {
        ended?;
    } else {
        tracing::warn!(role, "drain timeout: cutting off calls in flight");
        readiness.set_ended();
        // A caller that does not read its response must not delay the shutdown.
        let _ = tokio::time::timeout(CUT_OFF_TIMEOUT, serving).await;
    }
    tracing::info!(role, "stopped");
    Ok(())
}

/// Wraps the role's routes in the call layer. Health, reflection and metrics stay outside it, so that they always
/// answer.
fn routes(server: Server, health: &Health) -> Result<Routes, Error> {
    let calls = CallLayer {
        metrics: Arc::new(Metrics::new(server.role)),
        admission: Admission::new(server.readiness, server.args.calls_max as usize, server.probe_paths),
        principal_source: server.principal_source,
        timeout: server.call_timeout,
    };
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let health = tonic_health::server::HealthService::from_health_reporter(health.reporter.clone());
    let metrics = Router::new().route("/metrics", get(render_metrics));
    Ok(Routes::from(server.routes.layer(calls).merge(metrics))
        .add_service(tonic_health::pb::health_server::HealthServer::new(health))
        .add_service(reflection)
        .prepare())
}

async fn render_metrics() -> axum::response::Response {
    match metrics::render() {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// gRPC health of the server as a whole (the empty name) and of its service.
struct Health {
    reporter: HealthReporter,
    names: [&'static str; 2],
}

impl Health {
    async fn new(service_name: &'static str) -> Self {
        let health = Self { reporter: HealthReporter::new(), names: ["", service_name] };
        health.set(ServingStatus::NotServing).await;
        health
    }

    async fn set(&self, status: ServingStatus) {
        for name in self.names {
            self.reporter.set_service_status(name, status).await;
        }
    }

    /// Reports the server's phase until the server shuts down.
    async fn follow(&self, readiness: &Readiness) {
        let mut phases = readiness.subscribe();
        loop {
            let phase = *phases.borrow_and_update();
            match phase {
                Phase::Loading => {}
                Phase::Ready => self.set(ServingStatus::Serving).await,
                Phase::Stalled => self.set(ServingStatus::NotServing).await,
                Phase::ShutdownAnnounced | Phase::Draining | Phase::Ended => return,
            }
            if phases.changed().await.is_err() {
                return;
            }
        }
    }

    /// Reports that the server no longer serves, and ends health watch streams, which would delay the drain.
    async fn close(&mut self) {
        self.set(ServingStatus::NotServing).await;
        for name in self.names {
            self.reporter.clear_service_status(name).await;
        }
    }
}
