//! Nodes of one stage, whose number the rule of a ScaledObject decides.

use std::collections::VecDeque;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use c3_proto::pb::compressor_client::CompressorClient;
use c3_proto::pb::decoder_client::DecoderClient;
use c3_proto::pb::{DescribeRequest, NodeLoad};
use c3_sim::rule::{Autoscaler, Rule, SYNC_PERIOD};

use crate::harness::external;
use crate::harness::fixtures;
use crate::harness::process::{Launch, Process, Program, free_address};
use crate::harness::prometheus::Prometheus;

/// Time from the decision to add a node until its program starts.
const START_DELAY: Duration = Duration::from_secs(10);
/// Windows of the rule for nodes that start in 10 s. The chart's are for 90 s.
const SCALE_UP_WINDOW: Duration = Duration::from_secs(15);
const SCALE_DOWN_WINDOW: Duration = Duration::from_secs(60);
/// Replicas of each stage.
const REPLICAS: RangeInclusive<usize> = 1..=4;

/// The nodes of one stage.
pub(super) struct Pool {
    program: Program,
    pub(super) stage: &'static str,
    cpu_percent: u32,
    autoscaler: Autoscaler,
    /// Time of the last decision since the drill began.
    synced: Option<Duration>,
    /// Oldest first.
    nodes: Vec<Node>,
    /// Times at which requested nodes start, oldest first.
    starting: VecDeque<Instant>,
    draining: Vec<Node>,
    /// Number of requested nodes after each change, with the time since the drill began.
    pub(super) history: Vec<(Duration, usize)>,
}

impl Pool {
    /// Returns an empty pool with the rule of the stage. Each node may use `cpu_percent` of a core.
    pub(super) fn new(program: Program, stage: &'static str, cpu_percent: u32) -> Result<Self> {
        let manifest = fs::read_to_string(fixtures::root().join("deploy/sim/scaled-object.yaml"))?;
        let rules = Rule::all_from_manifest(&manifest)?;
        let rule = rules.into_iter().find(|rule| rule.name.ends_with(stage));
        let mut rule = rule.with_context(|| format!("no ScaledObject for the stage {stage}"))?;
        (rule.min_replicas, rule.max_replicas) = (*REPLICAS.start(), *REPLICAS.end());
        rule.scale_up.stabilization_window = SCALE_UP_WINDOW;
        rule.scale_down.stabilization_window = SCALE_DOWN_WINDOW;
        Ok(Self {
            program,
            stage,
            cpu_percent,
            autoscaler: Autoscaler::new(rule),
            synced: None,
            nodes: Vec::new(),
            starting: VecDeque::new(),
            draining: Vec::new(),
            history: Vec::new(),
        })
    }

    /// Starts the nodes that are due, and forgets drained ones. Decides about the number of nodes once per sync period.
    pub(super) async fn sync(
        &mut self,
        begun: Instant,
        metrics: &Prometheus,
        gateway: &Process,
        folder: &Path,
    ) -> Result<()> {
        while self.starting.front().is_some_and(|at| *at <= Instant::now()) {
            self.starting.pop_front();
            self.start(gateway, folder).await?;
        }
        let mut draining = Vec::new();
        for mut node in self.draining.drain(..) {
            match node.process.has_exited()? {
                true => ensure!(node.process.exit().await?.success(), "{}", node.process.log()),
                false => draining.push(node),
            }
        }
        self.draining = draining;
        let now = begun.elapsed();
        if self.synced.is_some_and(|synced| now < synced + SYNC_PERIOD) {
            return Ok(());
        }
        self.synced = Some(now);
        let queries = Vec::from_iter(self.autoscaler.rule().triggers.iter().map(|trigger| trigger.query.clone()));
        let mut totals = Vec::new();
        for query in queries {
            totals.push(metrics.value(&query).await?);
        }
        let current = self.requested();
        let desired = self.autoscaler.recommend(now, current, &totals);
        if desired != current {
            self.history.push((now, desired));
        }
        for _ in current..desired {
            self.starting.push_back(Instant::now() + START_DELAY);
        }
        for _ in desired..current {
            // Like Kubernetes, removes nodes that are not ready first, then the newest.
            if self.starting.pop_back().is_none() {
                let node = self.nodes.pop().context("no node to remove")?;
                node.process.signal("TERM")?;
                self.draining.push(node);
            }
        }
        Ok(())
    }

    /// Starts a node that announces itself to the gateway, and waits until it is ready.
    pub(super) async fn start(&mut self, gateway: &Process, folder: &Path) -> Result<()> {
        let address = free_address()?;
        let launch = Launch::new(self.program).arg("--model").arg(fixtures::default_model()).args(["--threads", "1"]);
        let launch = launch.args(["--announce-to", &gateway.url(), "--advertise-as", &format!("http://{address}")]);
        let mut process = launch.arg("--listen").arg(&address).spawn(folder, address).await?;
        process.ready().await?;
        self.nodes.push(Node { limit: CpuLimit::new(&process, self.cpu_percent)?, process });
        Ok(())
    }

    /// Drains all nodes and waits until they have ended.
    pub(super) async fn drain(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            node.limit.lift()?;
            node.process.terminate().await?;
        }
        Ok(())
    }

    /// Returns the number of nodes, including those that still start.
    pub(super) fn requested(&self) -> usize {
        self.nodes.len() + self.starting.len()
    }

    /// Returns the largest number of nodes that was requested.
    pub(super) fn most(&self) -> usize {
        self.history.iter().map(|(_, replicas)| *replicas).max().unwrap_or(1)
    }

    /// Returns the number of changes that add nodes after a change that removed some.
    pub(super) fn flaps(&self) -> usize {
        let replicas = Vec::from_iter([1].into_iter().chain(self.history.iter().map(|(_, replicas)| *replicas)));
        replicas.windows(3).filter(|last| last[1] < last[0] && last[2] > last[1]).count()
    }

    /// Returns the load of the first node, as the node reports it.
    pub(super) async fn describe(&self) -> Result<NodeLoad> {
        let channel = self.nodes.first().context("no node")?.process.channel()?;
        let described = match self.program {
            Program::CompressorNode => CompressorClient::new(channel).describe(DescribeRequest {}).await?,
            _ => DecoderClient::new(channel).describe(DescribeRequest {}).await?,
        };
        described.into_inner().load.context("the node does not know its load")
    }
}

struct Node {
    // Dropped first: it lets the process run again.
    limit: CpuLimit,
    process: Process,
}

/// Limit on the CPU time of a process, by the program `cpulimit`, which stops and continues it.
struct CpuLimit {
    child: Child,
    process: u32,
}

impl CpuLimit {
    fn new(process: &Process, percent: u32) -> Result<Self> {
        let program = external::path_of("cpulimit", "apt-get install cpulimit")?;
        let (pid, limit) = (process.id().to_string(), percent.to_string());
        let mut command = Command::new(program);
        command.args(["--lazy", "--pid", &pid, "--limit", &limit]).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Self { child, process: process.id() })
    }

    /// Ends the limit.
    fn lift(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        external::run("kill", &["-s", "CONT", &self.process.to_string()])
    }
}

impl Drop for CpuLimit {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.lift();
    }
}
