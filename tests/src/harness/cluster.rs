//! A gateway with nodes of both stages, each in its own process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use c3_cascade::DeviceChoice;
use c3_proto::pb::compressor_client::CompressorClient;
use c3_proto::pb::decoder_client::DecoderClient;
use c3_proto::pb::{DescribeRequest, DescribeResponse, NodeCounters, NodeState};
use tempfile::TempDir;

use crate::harness::certificates::Certificates;
use crate::harness::fixtures;
use crate::harness::gateway_api::GatewayApi;
use crate::harness::process::{Launch, Process, Program};
use crate::harness::proxy::{FaultRates, Proxy};
use crate::harness::wait::until;

/// Maximum time until a gateway sees all its nodes ready, or until nodes and gateway are idle.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// Configuration of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// Checkpoint of the nodes.
    pub model: PathBuf,
    /// Number of compressor nodes.
    pub compressors: usize,
    /// Number of decoder nodes.
    pub decoders: usize,
    /// Additional command-line arguments of every node.
    pub node_args: Vec<String>,
    /// Devices of the nodes of each stage, given as `--device`: node `i` gets the device with index `i` modulo their
    /// number. If empty, nodes choose their devices.
    pub devices: Vec<DeviceChoice>,
    /// Additional command-line arguments of the gateway.
    pub gateway_args: Vec<String>,
    /// Puts a proxy in front of every node.
    pub proxied: bool,
    /// Command that wraps the gateway's command line, such as `setpriv` or `env`. It must exec the gateway.
    pub gateway_wrapper: Vec<String>,
    /// Folder or URL of the gateway's store. The default is [`Cluster::data`].
    pub data: Option<String>,
    /// Additional environment variables of all programs.
    pub env: Vec<(String, String)>,
    /// API key that [`Cluster::api`] sends, if the gateway has access control.
    pub api_key: Option<String>,
    /// Certificates of all programs. They then authenticate each other by mTLS.
    pub certificates: Option<Arc<Certificates>>,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            model: fixtures::default_model(),
            compressors: 1,
            decoders: 1,
            node_args: Vec::new(),
            devices: Vec::new(),
            gateway_args: Vec::new(),
            proxied: false,
            gateway_wrapper: Vec::new(),
            data: None,
            env: Vec::new(),
            api_key: None,
            certificates: None,
        }
    }
}

impl ClusterSpec {
    /// Returns the configuration of a cluster with one node of each stage and the checkpoint in the folder `model`.
    pub fn of_model(model: PathBuf) -> Self {
        Self { model, ..Self::default() }
    }

    /// Returns the default configuration with additional gateway arguments.
    pub fn with_gateway_args(args: &[&str]) -> Self {
        Self { gateway_args: args.iter().map(ToString::to_string).collect(), ..Self::default() }
    }

    fn launch(&self, program: Program) -> Launch {
        let launch = Launch::new(program);
        self.env.iter().fold(launch, |launch, (name, value)| launch.env(name, value))
    }

    /// Adds the flags of the role's certificate, if there are certificates. The harness connects as `caller`.
    fn with_certificate(&self, launch: Launch, role: &str, caller: &str) -> Result<Launch> {
        Ok(match &self.certificates {
            Some(certificates) => launch.args(certificates.flags(role)).over_tls(certificates.credentials(caller)?),
            None => launch,
        })
    }

    async fn nodes(&self, program: Program, count: usize, folder: &Path) -> Result<Vec<Process>> {
        let mut nodes = Vec::new();
        for number in 0..count {
            nodes.push(self.node(program, number)?.serve(folder).await?);
        }
        Ok(nodes)
    }

    /// Returns the command line of the node with this number in its stage.
    fn node(&self, program: Program, number: usize) -> Result<Launch> {
        let launch = self.launch(program).arg("--model").arg(&self.model).args(&self.node_args);
        let launch = self.with_certificate(launch, "node", "gateway")?;
        Ok(match number.checked_rem(self.devices.len()) {
            Some(device) => launch.arg("--device").arg(self.devices[device].to_string()),
            None => launch,
        })
    }

    /// Starts all programs and waits until the gateway sees every node ready. Logs and store go to a temporary folder.
    pub async fn start(self) -> Result<Cluster> {
        let folder = TempDir::with_prefix("c3-cluster-")?;
        self.start_in(folder).await
    }

    async fn start_in(self, folder: TempDir) -> Result<Cluster> {
        let compressors = self.nodes(Program::CompressorNode, self.compressors, folder.path()).await?;
        let decoders = self.nodes(Program::DecoderNode, self.decoders, folder.path()).await?;
        let mut proxies = Vec::new();
        if self.proxied {
            for node in compressors.iter().chain(&decoders) {
                proxies.push(Proxy::before(node.address().to_owned(), FaultRates::default(), 0).await?);
            }
        }
        let addresses = Addresses::of(&compressors, &decoders, &proxies);
        let gateway = self.gateway(&addresses, folder.path())?.serve(folder.path()).await?;
        let cluster = Cluster { gateway, compressors, decoders, proxies, addresses, spec: self, folder };
        cluster.wait_until_ready().await?;
        Ok(cluster)
    }

    fn gateway(&self, nodes: &Addresses, folder: &Path) -> Result<Launch> {
        let data = self.data.clone().map_or_else(|| folder.join("data").into_os_string(), Into::into);
        let mut launch = self.launch(Program::Gateway).under(&self.gateway_wrapper).arg("--data").arg(data);
        for address in &nodes.compressors {
            launch = launch.arg("--compressor").arg(address);
        }
        for address in &nodes.decoders {
            launch = launch.arg("--decoder").arg(address);
        }
        self.with_certificate(launch.args(&self.gateway_args), "gateway", "client")
    }
}

/// Node URLs on the gateway's command line.
#[derive(Debug)]
struct Addresses {
    compressors: Vec<String>,
    decoders: Vec<String>,
}

impl Addresses {
    /// Returns the URLs of the nodes. If there are proxies, returns their URLs instead: one for each node, compressors
    /// first.
    fn of(compressors: &[Process], decoders: &[Process], proxies: &[Proxy]) -> Self {
        let nodes = compressors.iter().chain(decoders).map(Process::url);
        let before = proxies.iter().map(|proxy| format!("http://{}", proxy.address));
        let mut all: Vec<_> = if proxies.is_empty() { nodes.collect() } else { before.collect() };
        let decoders = all.split_off(compressors.len());
        Self { compressors: all, decoders }
    }
}

/// Running programs of a cluster. Dropping the cluster kills them and deletes its temporary folder.
#[derive(Debug)]
pub struct Cluster {
    /// The gateway. It is the first field, so it is dropped before the nodes and does not log their loss.
    pub gateway: Process,
    /// Compressor nodes.
    pub compressors: Vec<Process>,
    /// Decoder nodes.
    pub decoders: Vec<Process>,
    /// One proxy for each node, compressors first. Empty unless [`ClusterSpec::proxied`] is set.
    pub proxies: Vec<Proxy>,
    addresses: Addresses,
    spec: ClusterSpec,
    folder: TempDir,
}

impl Cluster {
    /// Returns a client of the gateway that connects on first use.
    pub fn api(&self) -> Result<GatewayApi> {
        GatewayApi::with_key(&self.gateway, self.spec.api_key.as_deref())
    }

    /// Returns the sum of a metric of the gateway, as [`Process::metric`] does. Uses [`ClusterSpec::api_key`].
    pub async fn gateway_metric(&self, name: &str, labels: &str) -> Result<f64> {
        match &self.spec.api_key {
            Some(key) => self.gateway.metric_with_key(key, name, labels).await,
            None => self.gateway.metric(name, labels).await,
        }
    }

    /// Returns the default folder of the gateway's store, which the gateway uses unless [`ClusterSpec::data`] is set.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Returns the files of the store's objects. Omits the folder `meta`, which holds the store's identity and the
    /// space reserved for deletes on a full disk.
    pub fn objects(&self) -> Result<Vec<PathBuf>> {
        let (mut files, meta) = (files_under(&self.data())?, self.data().join("meta"));
        files.retain(|file| !file.starts_with(&meta));
        Ok(files)
    }

    /// Drains all programs and starts them again on other ports, over the same data and with cold caches.
    pub async fn restart(mut self) -> Result<Self> {
        self.gateway.terminate().await?;
        for node in self.compressors.iter_mut().chain(&mut self.decoders) {
            node.terminate().await?;
        }
        self.spec.start_in(self.folder).await
    }

    /// Kills the gateway and starts another one on a new port, over the same data and nodes.
    pub async fn restart_gateway(&mut self) -> Result<()> {
        self.gateway.kill()?;
        self.gateway = self.spec.gateway(&self.addresses, self.folder.path())?.serve(self.folder.path()).await?;
        self.wait_until_ready().await
    }

    /// Starts a second gateway over the same data and nodes, and waits until it sees the nodes ready.
    pub async fn start_second_gateway(&self) -> Result<Process> {
        let gateway = self.spec.gateway(&self.addresses, self.folder.path())?;
        let gateway = gateway.serve(self.folder.path()).await?;
        self.wait_until_nodes_ready(&gateway).await?;
        Ok(gateway)
    }

    /// Starts a gateway over the same data and nodes with more arguments, and waits until it sees the nodes ready.
    pub async fn with_gateway_args(&self, args: &[&str]) -> Result<Process> {
        let gateway = self.spec.gateway(&self.addresses, self.folder.path())?.args(args.iter().copied());
        let gateway = gateway.serve(self.folder.path()).await?;
        self.wait_until_nodes_ready(&gateway).await?;
        Ok(gateway)
    }

    /// Starts a gateway over the same data and nodes at the free `address`, and waits until it is healthy.
    pub async fn start_gateway_at(&self, address: &str) -> Result<Process> {
        let launch = self.spec.gateway(&self.addresses, self.folder.path())?.arg("--listen").arg(address);
        let mut gateway = launch.spawn(self.folder.path(), address.to_owned()).await?;
        gateway.ready().await?;
        Ok(gateway)
    }

    /// Returns the node with a 0-based number. Compressors come first. Panics if there is no such node.
    pub fn node(&mut self, number: usize) -> &mut Process {
        let compressors = self.compressors.len();
        match number.checked_sub(compressors) {
            None => &mut self.compressors[number],
            Some(decoder) => &mut self.decoders[decoder],
        }
    }

    /// Returns the number of nodes of both stages.
    pub fn nodes(&self) -> usize {
        self.compressors.len() + self.decoders.len()
    }

    /// Returns the URL of a node, or of its proxy if there is one. Empty if there is no such node.
    pub fn address(&self, number: usize) -> &str {
        let mut all = self.addresses.compressors.iter().chain(&self.addresses.decoders);
        all.nth(number).map_or("", String::as_str)
    }

    /// Starts node `number`, which has ended, again at its old address. Waits until it is ready.
    pub async fn restart_node(&mut self, number: usize) -> Result<()> {
        let (program, in_stage) = match number.checked_sub(self.compressors.len()) {
            None => (Program::CompressorNode, number),
            Some(decoder) => (Program::DecoderNode, decoder),
        };
        let (launch, folder) = (self.spec.node(program, in_stage)?, self.folder.path().to_owned());
        let address = self.node(number).address().to_owned();
        let node = self.node(number);
        *node = launch.arg("--listen").arg(&address).spawn(&folder, address).await?;
        node.ready().await
    }

    /// Waits until the gateway sees every node ready.
    pub async fn wait_until_ready(&self) -> Result<()> {
        self.wait_until_nodes_ready(&self.gateway).await
    }

    /// Calls `Describe` of the first compressor node.
    pub async fn describe_compressor(&self) -> Result<DescribeResponse> {
        let node = self.compressors.first().context("no compressor")?;
        let answer = CompressorClient::new(node.channel()?).describe(DescribeRequest {}).await?;
        Ok(answer.into_inner())
    }

    /// Calls `Describe` of the first decoder node.
    pub async fn describe_decoder(&self) -> Result<DescribeResponse> {
        let node = self.decoders.first().context("no decoder")?;
        let answer = DecoderClient::new(node.channel()?).describe(DescribeRequest {}).await?;
        Ok(answer.into_inner())
    }

    /// Returns the counters of the first compressor and the first decoder.
    pub async fn counters(&self) -> Result<(NodeCounters, NodeCounters)> {
        let compressor = self.describe_compressor().await?.counters.context("no counters")?;
        let decoder = self.describe_decoder().await?.counters.context("no counters")?;
        Ok((compressor, decoder))
    }

    /// Waits until the first node of each stage has no work and the gateway has no calls in flight.
    pub async fn wait_until_idle(&self) -> Result<()> {
        let api = self.api()?;
        let idle = until("nodes to be idle", SETTLE_LIMIT, async || {
            let described = [self.describe_compressor().await.ok()?, self.describe_decoder().await.ok()?];
            let loads = described.iter().map(|described| described.load.unwrap_or_default());
            let busy = loads.map(|load| load.queued_tokens + load.running_tokens).sum::<u64>();
            let nodes = api.nodes().await.ok()?;
            let in_flight = nodes.iter().map(|node| node.calls_in_flight).sum::<u32>();
            (busy == 0 && in_flight == 0).then_some(())
        });
        idle.await
    }

    async fn wait_until_nodes_ready(&self, gateway: &Process) -> Result<()> {
        let api = GatewayApi::with_key(gateway, self.spec.api_key.as_deref())?;
        let expected = self.compressors.len() + self.decoders.len();
        let seen = until("the gateway to see its nodes", SETTLE_LIMIT, async || {
            let nodes = api.nodes().await.ok()?;
            let ready = nodes.iter().filter(|node| node.state() == NodeState::Ready).count();
            (ready >= expected).then_some(())
        });
        seen.await.with_context(|| gateway.log())
    }
}

/// Returns every file in `folder` and its subfolders, sorted by path.
pub fn files_under(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_under(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
