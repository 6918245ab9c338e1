//! Serves the routes of a role, with call layer, health, reflection, metrics and graceful drain.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use c3_proto::pb;
use c3_tls::Credentials;
use clap::builder::BoolishValueParser;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::service::Routes;
use tower_http::compression::CompressionLayer;

use crate::Readiness;
use crate::access::{self, Access, Requirement, Scope};
use crate::admission::Admission;
use crate::call::Protocol;
use crate::call_layer::CallLayer;
use crate::connections::Connections;
use crate::error::ErrorKind;
use crate::handshake::Handshakes;
use crate::health::{self, Health, StageHealth};
use crate::in_process::InProcessListener;
use crate::metrics::{self, Metrics};
use crate::principal::PrincipalSource;
use crate::program::{self, BindError, ListenAddress};
use crate::tls::{self, ServerTlsArgs};
use crate::units::TimeSpan;
use crate::web_access::{self, WebAccess};

/// Maximum time, after the drain timeout, in which calls that are cut off can report the error to their callers.
const CUT_OFF_TIMEOUT: Duration = Duration::from_secs(1);

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
    /// If a caller reads no bytes of a response for this time, the call no longer counts as concurrent. After ten times
    /// as long, the response is ended
    #[arg(long, env = "C3_RESPONSE_STALL", value_name = "DURATION", value_parser = TimeSpan::positive,
        default_value_t = Self::default().response_stall)]
    pub response_stall: TimeSpan,
    /// If a caller of a gateway sends a request more slowly than 64 bytes a second, its call soon no longer counts as
    /// concurrent. After this time, the call is ended
    #[arg(long, env = "C3_REQUEST_STALL", value_name = "DURATION", value_parser = TimeSpan::positive,
        default_value_t = Self::default().request_stall)]
    pub request_stall: TimeSpan,
    /// Time without a call after which a connection is closed
    #[arg(long, env = "C3_CONNECTION_IDLE", value_name = "DURATION", value_parser = TimeSpan::positive,
        default_value_t = Self::default().connection_idle)]
    pub connection_idle: TimeSpan,
    /// Threads that serve calls; each keeps a few megabytes [default: one per core, at most 8]
    #[arg(long, env = "C3_IO_THREADS", value_name = "THREADS")]
    pub io_threads: Option<NonZeroUsize>,
    /// Additional address that serves only /metrics, without credentials
    #[arg(long, env = "C3_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<ListenAddress>,
    /// Listen beyond this machine although callers are not authenticated. Whoever reaches the port may then read and
    /// delete everything
    #[arg(long, env = "C3_INSECURE", value_parser = BoolishValueParser::new())]
    pub insecure: bool,
    /// TLS settings
    #[command(flatten)]
    pub tls: ServerTlsArgs,
}

impl Default for ServerArgs {
    fn default() -> Self {
        Self {
            // Exceeds the 500 ms between two probes by a gateway.
            shutdown_delay: TimeSpan::from_millis(700),
            drain_timeout: TimeSpan::from_secs(20),
            calls_max: 1024,
            // Longer than the pause after a lost packet, or that of a busy reader.
            response_stall: TimeSpan::from_secs(30),
            // Equal to the limit of a stalled response; it suffices for a person who types a text.
            request_stall: TimeSpan::from_secs(300),
            // Long enough that a client with occasional calls need not connect anew for each of them.
            connection_idle: TimeSpan::from_secs(300),
            io_threads: None,
            metrics_listen: None,
            insecure: false,
            tls: ServerTlsArgs::default(),
        }
    }
}

/// A server before it serves.
#[derive(Debug)]
pub struct Server {
    /// Role of the server in logs and metrics, such as `gateway`.
    pub role: &'static str,
    /// gRPC service whose health is reported in addition to that of the whole server.
    pub service_name: &'static str,
    /// The role's other gRPC services.
    pub other_services: &'static [&'static str],
    /// The role's routes, gRPC and HTTP. Set gRPC message size limits on the generated services.
    pub routes: Router,
    /// Paths of cheap calls with which load balancers probe the server. They are not refused under load.
    pub probe_paths: &'static [&'static str],
    /// Lifecycle of the server.
    pub readiness: Readiness,
    /// Stages whose nodes the server calls; `None` if it calls no nodes.
    pub stages: Option<StageHealth>,
    /// Source of the principals of calls.
    pub principal_source: PrincipalSource,
    /// Hosts and origins from which calls are accepted.
    pub web_access: WebAccess,
    /// Access control; `None` serves every caller.
    pub access: Option<Access>,
    /// Certificate and CAs of the server. Without a certificate, the server speaks plain text.
    pub credentials: Credentials,
    /// Names in the certificates of the peers that may call; `None` accepts all peers.
    pub peers: Option<Vec<String>>,
    /// True if every call proves the identity of its caller. Otherwise the server listens only on loopback addresses,
    /// unless [`ServerArgs::insecure`] is set.
    pub authenticates: bool,
    /// Maximum duration of a call; `None` for no limit.
    pub call_timeout: Option<Duration>,
    /// Connections from this process; `None` if it makes none.
    pub in_process: Option<InProcessListener>,
    /// Settings that every server has.
    pub args: ServerArgs,
}

/// Error that keeps a server from starting, or stops it without a shutdown request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener has no address.
    #[error("cannot read the listener's address: {0}")]
    Listener(#[from] std::io::Error),
    /// The address for metrics cannot be listened on.
    #[error("metrics: {0}")]
    Metrics(#[from] BindError),
    /// Certificates, keys or CAs cannot be used.
    #[error(transparent)]
    Tls(#[from] c3_tls::Error),
    /// The server would be open to everyone.
    #[error(
        "refusing to listen on {0}, because callers are not authenticated: give --tls-cert, --tls-key and --tls-ca \
        (`c3 certs init` makes them), and on a gateway --access (`c3 key create` makes it) or --tls-client required; or \
        listen on a loopback address such as 127.0.0.1, or accept the risk with --insecure"
    )]
    Exposed(SocketAddr),
    /// The reflection service rejected our descriptors.
    #[error("cannot offer reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves until `shutdown` is cancelled. Then announces the shutdown, serves for the shutdown delay, refuses new calls,
/// and waits for calls in flight up to the drain timeout.
pub async fn serve(mut server: Server, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
    let (role, readiness, args) = (server.role, server.readiness.clone(), server.args.clone());
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() && !server.authenticates {
        if !args.insecure {
            return Err(Error::Exposed(address));
        }
        tracing::warn!(role, %address, "INSECURE: whoever reaches this address may read and delete everything");
    }
    let mut health = Health::new(server.service_name, server.stages.clone()).await;
    let (handshakes, credentials) = (Handshakes::new(server.credentials.clone(), role), server.credentials.clone());
    let _following = AbortOnDropHandle::new(tokio::spawn(tls::follow(credentials, role)));
    let is_tls = handshakes.is_some();
    let in_process = server.in_process.take();
    let routes = routes(server, &health)?;
    let closing = CancellationToken::new();
    let _metrics = serve_metrics(&args, closing.clone()).await?;
    let connections = Connections::new(routes, handshakes, &args, closing.clone());
    let serving = Arc::clone(&connections).serve(listener, in_process);
    tokio::pin!(serving);
    tracing::info!(role, %address, tls = is_tls, "listening");
    tokio::select! {
        () = &mut serving => return Ok(()),
        () = health.follow(&readiness) => {}
        () = shutdown.cancelled() => {}
    }
    // Health changes first, so that load balancers choose another server before calls are refused and connections
    // close.
    readiness.set_shutdown_announced();
    health.close().await;
    let ServerArgs { shutdown_delay, drain_timeout, .. } = args;
    tracing::info!(role, %shutdown_delay, %drain_timeout, "draining");
    // Connections are still served during the delay: `serving` ends only after `closing` is cancelled.
    let _ = tokio::time::timeout(shutdown_delay.0, &mut serving).await;
    readiness.set_draining();
    closing.cancel();
    if tokio::time::timeout(drain_timeout.0, &mut serving).await.is_err() {
        tracing::warn!(role, connections = connections.open(), "drain timeout: cutting off connections");
        readiness.set_ended();
        // A caller that does not read its response must not delay the shutdown.
        let _ = tokio::time::timeout(CUT_OFF_TIMEOUT, serving).await;
    }
    tracing::info!(role, "stopped");
    Ok(())
}

/// Serves `/metrics` on an address of its own, if one is configured, until the returned handle is dropped.
async fn serve_metrics(args: &ServerArgs, closing: CancellationToken) -> Result<Option<AbortOnDropHandle<()>>, Error> {
    let Some(address) = &args.metrics_listen else { return Ok(None) };
    let listener = program::bind(address).await?;
    tracing::info!(%address, "serving metrics");
    let routes = Routes::from(Router::new().route("/metrics", get(render_metrics))).prepare();
    let serving = Connections::new(routes, None, args, closing).serve(listener, None);
    Ok(Some(AbortOnDropHandle::new(tokio::spawn(serving))))
}

/// Wraps the role's routes in the call layer. Health, reflection and metrics stay outside this layer, so that they
/// always answer. With access control, reflection needs credentials, and metrics need the scope `admin`. A path without
/// a route is refused in the request's protocol.
fn routes(server: Server, health: &Health) -> Result<Routes, Error> {
    let (probed, web_access) = (server.readiness.clone(), Arc::new(server.web_access));
    let calls = CallLayer {
        metrics: Arc::new(Metrics::new(server.role)),
        admission: Admission::new(server.readiness, server.args.calls_max as usize, server.probe_paths),
        principal_source: server.principal_source,
        web_access: Arc::clone(&web_access),
        access: server.access.clone(),
        peers: server.peers.map(Into::into),
        timeout: server.call_timeout,
        // A node waits for its gateway, which is not slow but has nothing to send.
        request_stall: matches!(server.principal_source, PrincipalSource::Connection)
            .then_some(server.args.request_stall.0),
    };
    let services = [&[server.service_name], server.other_services].concat();
    let (v1, v1alpha) = (reflection(&services).build_v1()?, reflection(&services).build_v1alpha()?);
    let health = tonic_health::server::HealthService::from_health_reporter(health.reporter.clone());
    let requires = |requirement| from_fn_with_state((server.access.clone(), requirement), access::require);
    let metrics = Router::new().route("/metrics", get(render_metrics));
    // The console reads the metrics every few seconds, perhaps over a slow network.
    let metrics = metrics.layer(CompressionLayer::new()).layer(requires(Requirement::Scope(Scope::Admin)));
    let reflection = Routes::new(v1).add_service(v1alpha).into_axum_router().reset_fallback();
    let reflection = reflection.layer(requires(Requirement::Key));
    let probes = health::routes(probed, server.stages).merge(metrics);
    let probes = probes.layer(from_fn_with_state(web_access, web_access::refuse_others));
    Ok(Routes::from(server.routes.fallback(no_route).layer(calls).merge(probes).merge(reflection))
        .add_service(tonic_health::pb::health_server::HealthServer::new(health))
        .prepare())
}

/// Refuses a path without a route. tonic's own fallback answers HTTP requests with status 200, which health checks and
/// scrapers take for success.
async fn no_route(request: Request) -> Response {
    match Protocol::of(request.headers()) {
        Protocol::Grpc => Status::unimplemented("").into_http(),
        Protocol::Http => {
            let problem = ErrorKind::NotFound.problem("nothing is served at this path: see /docs on a gateway");
            problem.into_response().map(Body::from)
        }
    }
}

/// Returns the builder of a reflection service that lists these services, health and reflection.
fn reflection(services: &[&'static str]) -> tonic_reflection::server::Builder<'static> {
    use tonic_reflection::pb::{v1, v1alpha};
    let own = [
        tonic_health::pb::health_server::SERVICE_NAME,
        v1::server_reflection_server::SERVICE_NAME,
        // Tools that are some years old know only this version.
        v1alpha::server_reflection_server::SERVICE_NAME,
    ];
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(v1alpha::FILE_DESCRIPTOR_SET);
    services.iter().chain(&own).fold(builder, |builder, &name| builder.with_service_name(name))
}

/// Answers with the metrics of the process in the format that the scraper accepts: OpenMetrics, or else Prometheus'.
async fn render_metrics(headers: HeaderMap) -> Response {
    let accepted = headers.get(ACCEPT).and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
    let (format, page) = match accepted.contains(metrics::OPENMETRICS_MEDIA_TYPE) {
        true => (metrics::OPENMETRICS, metrics::render_openmetrics().map_err(|error| error.to_string())),
        false => (prometheus::TEXT_FORMAT, metrics::render().map_err(|error| error.to_string())),
    };
    match page {
        Ok(page) => ([(CONTENT_TYPE, format)], page).into_response(),
        Err(error) => (http::StatusCode::INTERNAL_SERVER_ERROR, error).into_response(),
    }
}
