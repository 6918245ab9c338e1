//! The three programs together: nodes of both stages behind a gateway, each its own process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use c3_proto::pb::compressor_client::CompressorClient;
use c3_proto::pb::decoder_client::DecoderClient;
use c3_proto::pb::{DescribeRequest, DescribeResponse, NodeCounters, NodeState};
use tempfile::TempDir;

use crate::calls::Calls;
use crate::fixtures;
use crate::process::{Launch, Process, Program};
use crate::proxy::{Faults, Proxy};
use crate::wait::until;

/// Longest time until a gateway knows its nodes, or until nodes are idle again.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// What to start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Checkpoint of the nodes.
    pub model: PathBuf,
    /// Number of compressor nodes.
    pub compressors: usize,
    /// Number of decoder nodes.
    pub decoders: usize,
    /// Further arguments of every node.
    pub node_args: Vec<String>,
    /// Further arguments of the gateway.
    pub gateway_args: Vec<String>,
    /// A proxy stands before every node.
    pub proxied: bool,
    /// A program that changes what the gateway runs under and then becomes it.
    pub gateway_under: Vec<String>,
    /// Where the gateway keeps its documents; `None`: in [`Cluster::data`].
    pub data: Option<String>,
    /// Environment of all programs.
    pub env: Vec<(String, String)>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            model: fixtures::default_model(),
            compressors: 1,
            decoders: 1,
            node_args: Vec::new(),
            gateway_args: Vec::new(),
            proxied: false,
            gateway_under: Vec::new(),
            data: None,
            env: Vec::new(),
        }
    }
}

impl Plan {
    /// One node of each stage with this checkpoint.
    pub fn of_model(model: PathBuf) -> Self {
        Self { model, ..Self::default() }
    }

    /// The default model behind a gateway with further arguments.
    pub fn with_gateway_args(args: &[&str]) -> Self {
        Self { gateway_args: args.iter().map(ToString::to_string).collect(), ..Self::default() }
    }

    fn launch(&self, program: Program) -> Launch {
        let launch = Launch::new(program);
        self.env.iter().fold(launch, |launch, (name, value)| launch.env(name, value))
    }

    async fn nodes(&self, program: Program, count: usize, folder: &Path) -> Result<Vec<Process>> {
        let launch = self.node(program);
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(launch.serve(folder).await?);
        }
        Ok(nodes)
    }

    fn node(&self, program: Program) -> Launch {
        self.launch(program).arg("--model").arg(&self.model).args(&self.node_args)
    }

    /// Starts everything and waits until the gateway sees every node ready.
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
                proxies.push(Proxy::before(node.address().to_owned(), Faults::default(), 0).await?);
            }
        }
        let addresses = Addresses::of(&compressors, &decoders, &proxies);
        let gateway = self.gateway(&addresses, folder.path()).serve(folder.path()).await?;
        let cluster = Cluster { gateway, compressors, decoders, proxies, addresses, plan: self, folder };
        cluster.sees_all_nodes().await?;
        Ok(cluster)
    }

    fn gateway(&self, nodes: &Addresses, folder: &Path) -> Launch {
        let data = self.data.clone().map_or_else(|| folder.join("data").into_os_string(), Into::into);
        let mut launch = self.launch(Program::Gateway).under(&self.gateway_under).arg("--data").arg(data);
        for address in &nodes.compressors {
            launch = launch.arg("--compressor").arg(address);
        }
        for address in &nodes.decoders {
            launch = launch.arg("--decoder").arg(address);
        }
        launch.args(&self.gateway_args)
    }
}

/// Where a gateway finds the nodes.
#[derive(Debug)]
struct Addresses {
    compressors: Vec<String>,
    decoders: Vec<String>,
}

impl Addresses {
    /// Of the proxies before the nodes where there are any, in the same order.
    fn of(compressors: &[Process], decoders: &[Process], proxies: &[Proxy]) -> Self {
        let nodes = compressors.iter().chain(decoders).map(Process::url);
        let before = proxies.iter().map(|proxy| format!("http://{}", proxy.address));
        let mut all: Vec<_> = if proxies.is_empty() { nodes.collect() } else { before.collect() };
        let decoders = all.split_off(compressors.len());
        Self { compressors: all, decoders }
    }
}

/// Programs that run and serve.
#[derive(Debug)]
pub struct Cluster {
    /// What clients talk to. Dropped first, so that it never logs the loss of its nodes.
    pub gateway: Process,
    /// First stage.
    pub compressors: Vec<Process>,
    /// Second stage.
    pub decoders: Vec<Process>,
    /// Before each node, compressors first, where the plan asked for them.
    pub proxies: Vec<Proxy>,
    addresses: Addresses,
    plan: Plan,
    folder: TempDir,
}

impl Cluster {
    /// Calls of the gateway.
    pub fn calls(&self) -> Result<Calls> {
        Calls::to(&self.gateway)
    }

    /// Where the gateway keeps its documents.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Stops everything in good order and starts it anew over the same data: all caches are cold.
    pub async fn restart(mut self) -> Result<Self> {
        self.gateway.terminate().await?;
        for node in self.compressors.iter_mut().chain(&mut self.decoders) {
            node.terminate().await?;
        }
        self.plan.start_in(self.folder).await
    }

    /// Kills the gateway and starts another over the same data and nodes.
    pub async fn restart_gateway(&mut self) -> Result<()> {
        self.gateway.kill()?;
        self.gateway =
            self.plan.gateway(&self.addresses, self.folder.path()).serve(self.folder.path()).await?;
        self.sees_all_nodes().await
    }

    /// Another gateway over the same data and nodes, which it knows by then.
    pub async fn another_gateway(&self) -> Result<Process> {
        let gateway = self.plan.gateway(&self.addresses, self.folder.path());
        let gateway = gateway.serve(self.folder.path()).await?;
        self.is_seen_by(&gateway).await?;
        Ok(gateway)
    }

    /// A gateway over the same data and nodes at this address, where one has ended.
    pub async fn gateway_at(&self, address: &str) -> Result<Process> {
        let launch = self.plan.gateway(&self.addresses, self.folder.path()).arg("--listen").arg(address);
        let mut gateway = launch.spawn(self.folder.path(), address.to_owned())?;
        gateway.ready().await?;
        Ok(gateway)
    }

    /// A node by its number, compressors first.
    pub fn node(&mut self, number: usize) -> &mut Process {
        let compressors = self.compressors.len();
        match number.checked_sub(compressors) {
            None => &mut self.compressors[number],
            Some(decoder) => &mut self.decoders[decoder],
        }
    }

    /// Number of nodes of both stages.
    pub fn nodes(&self) -> usize {
        self.compressors.len() + self.decoders.len()
    }

    /// What a gateway calls a node by its number.
    pub fn address(&self, number: usize) -> &str {
        let mut all = self.addresses.compressors.iter().chain(&self.addresses.decoders);
        all.nth(number).map_or("", String::as_str)
    }

    /// Starts a node that has ended anew, at its address, and waits until it is ready.
    pub async fn start_again(&mut self, number: usize) -> Result<()> {
        let program =
            if number < self.compressors.len() { Program::CompressorNode } else { Program::DecoderNode };
        let (launch, folder) = (self.plan.node(program), self.folder.path().to_owned());
        let address = self.node(number).address().to_owned();
        let node = self.node(number);
        *node = launch.arg("--listen").arg(&address).spawn(&folder, address)?;
        node.ready().await
    }

    /// Waits until the gateway finds every node ready.
    pub async fn becomes_whole(&self) -> Result<()> {
        self.sees_all_nodes().await
    }

    /// What the first compressor node says of itself.
    pub async fn compressor_says(&self) -> Result<DescribeResponse> {
        let node = self.compressors.first().context("no compressor")?;
        let answer = CompressorClient::new(node.channel()?).describe(DescribeRequest {}).await?;
        Ok(answer.into_inner())
    }

    /// What the first decoder node says of itself.
    pub async fn decoder_says(&self) -> Result<DescribeResponse> {
        let node = self.decoders.first().context("no decoder")?;
        let answer = DecoderClient::new(node.channel()?).describe(DescribeRequest {}).await?;
        Ok(answer.into_inner())
    }

    /// Counters of the first compressor and the first decoder.
    pub async fn counters(&self) -> Result<(NodeCounters, NodeCounters)> {
        let compressor = self.compressor_says().await?.counters.context("no counters")?;
        let decoder = self.decoder_says().await?.counters.context("no counters")?;
        Ok((compressor, decoder))
    }

    /// Waits until the first node of each stage has nothing queued and nothing running, and the gateway no call in flight.
    pub async fn becomes_idle(&self) -> Result<()> {
        let calls = self.calls()?;
        let idle = until("nodes to be idle", SETTLE_LIMIT, async || {
            let said = [self.compressor_says().await.ok()?, self.decoder_says().await.ok()?];
            let loads = said.iter().map(|said| said.load.unwrap_or_default());
            let busy = loads.map(|load| load.queued_tokens + load.running_tokens).sum::<u64>();
            let nodes = calls.nodes().await.ok()?;
            let calls = nodes.iter().map(|node| node.calls_in_flight).sum::<u32>();
            (busy == 0 && calls == 0).then_some(())
        });
        idle.await
    }

    async fn sees_all_nodes(&self) -> Result<()> {
        self.is_seen_by(&self.gateway).await
    }

    async fn is_seen_by(&self, gateway: &Process) -> Result<()> {
        let calls = Calls::to(gateway)?;
        let expected = self.compressors.len() + self.decoders.len();
        let seen = until("the gateway to see its nodes", SETTLE_LIMIT, async || {
            let nodes = calls.nodes().await.ok()?;
            let ready = nodes.iter().filter(|node| node.state() == NodeState::Ready).count();
            (ready >= expected).then_some(())
        });
        seen.await.with_context(|| gateway.log())
    }
}

/// Every file under `folder`.
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
