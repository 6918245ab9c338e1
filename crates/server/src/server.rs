//! The one way in which a server of ours serves: layers, health, reflection, metrics, and the graceful drain.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use axum::{Router, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use c3_proto::pb;
use c3_transport::by_turns;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::server::TcpIncoming};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    Readiness,
    admission::Gate,
    caller::Callers,
    calls::Calls,
    dispatch::{Dispatch, GrpcServer},
    metrics::{self, Metrics},
    readiness::State,
};

/// How long calls that are cut have to tell their callers so.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often an idle connection is asked whether the other side still lives.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// How long it has to answer. A caller whose machine died frees its places after both.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings that every server has.
#[derive(clap::Args, Clone, Debug)]
pub struct ServerArgs {
    /// Milliseconds during which a server that is asked to stop says so and still takes calls, so that callers learn of it
    #[arg(long, env = "C3_SETTLE_MS", value_name = "MS", default_value_t = Self::default().settle_ms)]
    pub settle_ms: u64,
    /// Milliseconds that calls in flight have to end in when the server is asked to stop
    #[arg(long, env = "C3_DRAIN_MS", value_name = "MS", default_value_t = Self::default().drain_ms)]
    pub drain_ms: u64,
    /// Calls served at once; more are refused with RESOURCE_EXHAUSTED
    #[arg(long, env = "C3_CALLS_MAX", value_name = "CALLS", default_value_t = Self::default().calls_max)]
    pub calls_max: u32,
    /// Threads that serve calls, each of which keeps some megabytes; without it, one for each core, but 8 at most
    #[arg(long, env = "C3_IO_THREADS", value_name = "THREADS")]
    pub io_threads: Option<NonZeroUsize>,
}

impl Default for ServerArgs {
    fn default() -> Self {
        // Gateways look twice a second.
        Self { settle_ms: 700, drain_ms: 20_000, calls_max: 1024, io_threads: None }
    }
}

/// A server before it serves.
#[derive(Debug)]
pub struct Server<S> {
    /// Name in logs and metrics.
    pub role: &'static str,
    /// Its gRPC service, whose health is told beside the server's own. Message sizes are bounded on the generated server,
    /// the only place that knows them.
    pub service: S,
    /// Other gRPC services of the role, which are seldom called.
    pub more: Routes,
    /// Whether it takes calls.
    pub readiness: Readiness,
    /// Whom it takes for its callers.
    pub callers: Callers,
    /// Longest time that a call may take, where there is one.
    pub call_timeout: Option<Duration>,
    /// The rest.
    pub args: ServerArgs,
}

/// Why a server stopped without being asked to.
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

/// Serves until `shutdown` is cancelled and the calls in flight have ended, or their time to drain is over.
pub async fn serve<S: GrpcServer>(
    server: Server<S>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let Server { role, ref readiness, ref args, .. } = server;
    let (drain, address) = (Duration::from_millis(args.drain_ms), listener.local_addr()?);
    if !address.ip().is_loopback() {
        tracing::warn!(role, %address, "listening beyond this machine without TLS or authentication");
    }
    let mut health = Health::new(S::NAME).await;
    let dispatch = dispatch(&server, &health)?;
    let closing = CancellationToken::new();
    let serving = tonic::transport::Server::builder()
        // Metrics are scraped over HTTP/1.1.
        .accept_http1(true)
        // A caller whose machine died must not hold its places for ever.
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        // One connection may use all places; it cannot queue more behind them.
        .max_concurrent_streams(args.calls_max)
        .serve_with_incoming_shutdown(
            dispatch,
            by_turns(TcpIncoming::from(listener).with_nodelay(Some(true))),
            closing.clone().cancelled_owned(),
        );
    tokio::pin!(serving);
    tracing::info!(role, %address, "listening");
    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        () = health.follow(readiness) => {}
        () = shutdown.cancelled() => {}
    }
    // Health flips first, so that whoever balances load looks elsewhere before calls are refused and connections close.
    readiness.set_settling();
    health.close().await;
    tracing::info!(role, settle_ms = args.settle_ms, drain_ms = args.drain_ms, "draining");
    if let Ok(ended) = tokio::time::timeout(Duration::from_millis(args.settle_ms), &mut serving).await {
        return Ok(ended?);
    }
    readiness.set_draining();
    closing.cancel();
    if let Ok(ended) = tokio::time::timeout(drain, &mut serving).await {
        ended?;
    } else {
        tracing::warn!(role, "calls in flight did not end in time and are cut");
        readiness.set_over();
        // A connection that a caller does not read from is not waited for.
        let _ = tokio::time::timeout(LAST_WORDS, serving).await;
    }
    tracing::info!(role, "stopped");
    Ok(())
}

/// The role's services behind the layer of calls; health, reflection and metrics beside them, so that they answer always.
fn dispatch<S: GrpcServer>(server: &Server<S>, health: &Health) -> Result<Dispatch<S>, Error> {
    let calls = Calls {
        metrics: Arc::new(Metrics::new(server.role)),
        gate: Gate::new(server.readiness.clone(), server.args.calls_max as usize),
        callers: server.callers,
        timeout: server.call_timeout,
    };
    let more = server.more.clone().into_axum_router().layer(calls.clone());
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let health = tonic_health::server::HealthService::from_health_reporter(health.reporter.clone());
    let beside = Router::new().route("/metrics", get(render_metrics));
    let rest = Routes::from(more.merge(beside))
        .add_service(tonic_health::pb::health_server::HealthServer::new(health))
        .add_service(reflection);
    Ok(Dispatch::new(server.service.clone(), &calls, rest))
}

async fn render_metrics() -> axum::response::Response {
    match metrics::render() {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// What gRPC health tells: of the server as a whole (the empty name) and of its service.
struct Health {
    reporter: HealthReporter,
    names: [&'static str; 2],
}

impl Health {
    async fn new(service: &'static str) -> Self {
        let health = Self { reporter: HealthReporter::new(), names: ["", service] };
        health.set(ServingStatus::NotServing).await;
        health
    }

    async fn set(&self, status: ServingStatus) {
        for name in self.names {
            self.reporter.set_service_status(name, status).await;
        }
    }

    /// Tells of the server's state until it drains.
    async fn follow(&self, readiness: &Readiness) {
        let mut states = readiness.subscribe();
        loop {
            let state = *states.borrow_and_update();
            match state {
                State::Loading => {}
                State::Ready => self.set(ServingStatus::Serving).await,
                State::Stalled => self.set(ServingStatus::NotServing).await,
                State::Settling | State::Draining | State::Over => return,
            }
            if states.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tells that the server does not serve any more, and ends the streams of those who watch: they would hold up
    /// the drain.
    async fn close(&mut self) {
        self.set(ServingStatus::NotServing).await;
        for name in self.names {
            self.reporter.clear_service_status(name).await;
        }
    }
}
