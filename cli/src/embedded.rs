//! A gateway and its nodes inside this process: the same servers as the three programs, on the loopback.

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use c3_client::{Client, pb};
use c3_server::program;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::serve::ModelArgs;

/// Any free port of this machine, for this machine only.
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// How often the gateway is asked whether its nodes are ready.
const READY_POLL: Duration = Duration::from_millis(20);

/// What to start.
pub(crate) struct Plan {
    /// Where the gateway listens.
    pub(crate) listener: TcpListener,
    /// The gateway. A stage whose nodes it names is not started.
    pub(crate) gateway: c3_gateway::Config,
    /// The model of the nodes that are started.
    pub(crate) model: ModelArgs,
}

/// Servers that run. Dropping it stops them at once.
pub(crate) struct Stack {
    url: String,
    gateway: Servers,
    nodes: Servers,
    /// Lives as long as the documents in it.
    _data: Option<TempDir>,
}

/// Servers that stop together.
#[derive(Default)]
struct Servers {
    tasks: JoinSet<Result<(), Failure>>,
    shutdown: CancellationToken,
}

impl Servers {
    fn spawn<E: std::error::Error>(&mut self, server: impl Future<Output = Result<(), E>> + Send + 'static) {
        self.tasks.spawn(async { server.await.map_err(|error| Failure::WorkFailed(error.to_string())) });
    }

    /// The first that ends, which none should; never, where there is none.
    async fn ended(&mut self) -> Failure {
        match self.tasks.join_next().await {
            Some(Ok(Err(failure))) => failure,
            Some(Ok(Ok(()))) => Failure::WorkFailed("a server stopped by itself".to_owned()),
            Some(Err(panic)) => Failure::WorkFailed(format!("a server panicked: {panic}")),
            None => pending().await,
        }
    }

    async fn stop(mut self) -> Result<(), Failure> {
        self.shutdown.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap_or_else(|panic| Err(Failure::WorkFailed(format!("a server panicked: {panic}"))))?;
        }
        Ok(())
    }
}

impl Stack {
    /// Starts all servers. They take calls as soon as their models are loaded.
    pub(crate) async fn start(plan: Plan) -> Result<Self, Failure> {
        let Plan { listener, mut gateway, model } = plan;
        let (mut edge, mut nodes) = (Servers::default(), Servers::default());
        if gateway.compressors.is_empty() {
            let (listener, url) = listen().await?;
            let run = c3_compressor_node::run(model.node()?, listener, nodes.shutdown.clone());
            nodes.spawn(run);
            gateway.compressors.push(url);
        }
        if gateway.decoders.is_empty() {
            let (listener, url) = listen().await?;
            nodes.spawn(c3_decoder_node::run(model.node()?, listener, nodes.shutdown.clone()));
            gateway.decoders.push(url);
        }
        let url = url_of(&listener)?;
        edge.spawn(c3_gateway::run(gateway, listener, edge.shutdown.clone()));
        Ok(Self { url, gateway: edge, nodes, _data: None })
    }

    /// Starts all servers over a folder that goes with them, and waits until they are ready.
    pub(crate) async fn temporary(model: &ModelArgs) -> Result<Self, Failure> {
        let folder = TempDir::with_prefix("c3-");
        let folder = folder.map_err(|error| Failure::at(&std::env::temp_dir(), &error))?;
        let (listener, _) = listen().await?;
        let gateway = c3_gateway::Config { data: folder.path().display().to_string(), ..Default::default() };
        let plan = Plan { listener, gateway, model: model.clone() };
        let mut stack = Self::start(plan).await?;
        stack._data = Some(folder);
        let url = stack.url.clone();
        stack.until_ended(ready(&url)).await?;
        Ok(stack)
    }

    /// URL of the gateway.
    pub(crate) fn gateway(&self) -> &str {
        &self.url
    }

    /// What `work` gives, unless a server ends before it does.
    pub(crate) async fn until_ended<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            done = work => done,
            failure = self.gateway.ended() => Err(failure),
            failure = self.nodes.ended() => Err(failure),
        }
    }

    /// Drains and stops all: the gateway first, whose calls in flight still need the nodes.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        self.gateway.stop().await?;
        self.nodes.stop().await
    }
}

async fn listen() -> Result<(TcpListener, String), Failure> {
    let listener = program::bind(LOOPBACK).await.map_err(|error| Failure::WorkFailed(error.to_string()))?;
    let url = url_of(&listener)?;
    Ok((listener, url))
}

fn url_of(listener: &TcpListener) -> Result<String, Failure> {
    let address = listener.local_addr();
    let address =
        address.map_err(|error| Failure::WorkFailed(format!("a listener has no address: {error}")))?;
    Ok(format!("http://{address}"))
}

/// Waits until the gateway at `url` knows a ready node of each stage.
async fn ready(url: &str) -> Result<(), Failure> {
    let client = Client::connect(url).await?;
    loop {
        let nodes = client.nodes().await?;
        let ready =
            |stage| nodes.iter().any(|node| node.stage() == stage && node.state() == pb::NodeState::Ready);
        if ready(pb::Stage::Compressor) && ready(pb::Stage::Decoder) {
            return Ok(());
        }
        tokio::time::sleep(READY_POLL).await;
    }
}
