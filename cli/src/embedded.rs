//! Runs a gateway and its nodes inside this process. They are the same servers as in the programs `gateway`,
//! `compressor-node` and `decoder-node`, and communicate over the loopback interface.

use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use c3_client::Client;
use c3_server::program;
use c3_server::tls::ServerTlsArgs;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::{ModelArgs, RemoteArgs, TargetArgs};
use crate::error::CliError;
use crate::output::Progress;
use crate::temporary::Registration;

/// Address to listen on: any free port, reachable from this machine only.
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Interval between checks that the nodes are ready.
const READY_POLL: Duration = Duration::from_millis(20);

/// A running gateway and nodes. Dropping the cluster stops them immediately, without draining.
pub(crate) struct EmbeddedCluster {
    gateway: ServerGroup,
    nodes: ServerGroup,
}

/// Servers that are stopped together.
#[derive(Default)]
struct ServerGroup {
    tasks: JoinSet<Result<(), CliError>>,
    shutdown: CancellationToken,
}

impl ServerGroup {
    fn spawn<E: std::error::Error>(&mut self, server: impl Future<Output = Result<(), E>> + Send + 'static) {
        self.tasks.spawn(async { server.await.map_err(|error| CliError::Failed(error.to_string())) });
    }

    /// Waits until any server of the group ends, and returns the reason as an error. Never returns if the group is
    /// empty.
    async fn failed(&mut self) -> CliError {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Ok(Ok(()))) => CliError::Failed("a server stopped unexpectedly".to_owned()),
            Some(Err(panic)) => CliError::Failed(format!("a server panicked: {panic}")),
            None => pending().await,
        }
    }

    async fn stop(mut self) -> Result<(), CliError> {
        self.shutdown.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap_or_else(|panic| Err(CliError::Failed(format!("a server panicked: {panic}"))))?;
        }
        Ok(())
    }
}

impl EmbeddedCluster {
    /// Starts a gateway on `listener`, and one node for each stage for which `gateway` lists no nodes. The nodes are
    /// reached over the loopback interface in plain text, whatever the TLS settings of the gateway. Returns before
    /// the nodes have loaded their models. A call that needs a node waits for it, but fails after the gateway's
    /// `node_wait`.
    pub(crate) async fn start(
        listener: TcpListener,
        mut gateway: c3_gateway::Config,
        model: &ModelArgs,
    ) -> Result<Self, CliError> {
        let (mut gateways, mut nodes) = (ServerGroup::default(), ServerGroup::default());
        if gateway.compressors.is_empty() {
            let (listener, url) = listen().await?;
            let mut node: c3_compressor_node::Config = model.node_config()?;
            node.node.server.tls = ServerTlsArgs::default();
            nodes.spawn(c3_compressor_node::run(node, listener, nodes.shutdown.clone()));
            gateway.compressors.push(url);
        }
        if gateway.decoders.is_empty() {
            let (listener, url) = listen().await?;
            let mut node: c3_decoder_node::Config = model.node_config()?;
            node.node.server.tls = ServerTlsArgs::default();
            nodes.spawn(c3_decoder_node::run(node, listener, nodes.shutdown.clone()));
            gateway.decoders.push(url);
        }
        gateways.spawn(c3_gateway::run(gateway, listener, gateways.shutdown.clone()));
        Ok(Self { gateway: gateways, nodes })
    }

    /// Starts a cluster like [`Self::start`] whose gateway listens on a free loopback port. Also returns its URL.
    pub(crate) async fn start_local(
        gateway: c3_gateway::Config,
        model: &ModelArgs,
    ) -> Result<(Self, String), CliError> {
        let (listener, url) = listen().await?;
        Ok((Self::start(listener, gateway, model).await?, url))
    }

    /// Runs `work` and returns its result. Drops `work` and fails if a server ends first.
    pub(crate) async fn run_until<T>(
        &mut self,
        work: impl Future<Output = Result<T, CliError>>,
    ) -> Result<T, CliError> {
        tokio::select! {
            result = work => result,
            error = self.gateway.failed() => Err(error),
            error = self.nodes.failed() => Err(error),
        }
    }

    /// Drains and stops the gateway, then the nodes. The nodes end last, because calls in flight on the gateway still
    /// need them.
    pub(crate) async fn stop(self) -> Result<(), CliError> {
        self.gateway.stop().await?;
        self.nodes.stop().await
    }
}

/// Calls `work` with the arguments for the gateway that `target` names. If it names none, first starts an embedded
/// cluster with a temporary store and waits, without a time limit, until the cluster is ready. In that case, also
/// returns the time that the start took.
pub(crate) async fn with_gateway<T>(
    target: &TargetArgs,
    work: impl AsyncFnOnce(&RemoteArgs) -> Result<T, CliError>,
) -> Result<(T, Option<Duration>), CliError> {
    if target.remote.gateway.is_some() {
        return Ok((work(&target.remote).await?, None));
    }
    let started = Instant::now();
    let data = TempDir::with_prefix("c3-").map_err(|error| CliError::at(&std::env::temp_dir(), &error))?;
    let _registration = Registration::of(data.path());
    let gateway = c3_gateway::Config { data: data.path().display().to_string(), ..Default::default() };
    let (mut cluster, url) = EmbeddedCluster::start_local(gateway, &target.model).await?;
    let progress = Progress::start("start", None);
    cluster.run_until(wait_until_ready(&url)).await?;
    drop(progress);
    let startup = started.elapsed();
    let result = cluster.run_until(work(&target.remote.at(url))).await?;
    cluster.stop().await?;
    Ok((result, Some(startup)))
}

async fn listen() -> Result<(TcpListener, String), CliError> {
    let listener = program::bind(&LOOPBACK.into()).await.map_err(|error| CliError::Failed(error.to_string()))?;
    let url = url_of(&listener)?;
    Ok((listener, url))
}

fn url_of(listener: &TcpListener) -> Result<String, CliError> {
    match listener.local_addr() {
        Ok(address) => Ok(format!("http://{address}")),
        Err(error) => Err(CliError::Failed(format!("cannot read the address of a listener: {error}"))),
    }
}

/// Waits, without a time limit, until the gateway at `url` has a ready node of each stage.
async fn wait_until_ready(url: &str) -> Result<(), CliError> {
    let client = Client::connect(url).await?;
    loop {
        if client.unready_stages().await?.stages.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(READY_POLL).await;
    }
}
