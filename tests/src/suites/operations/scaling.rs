//! Scaling drills: the load on real programs grows and falls, and the rule of the ScaledObjects adds and removes nodes.
//!
//! The test stands for Kubernetes: it evaluates the rule's queries in a Prometheus that scrapes the gateway, and starts
//! and drains nodes, which announce themselves. Each node may use only a small share of a core, so that several nodes
//! of a stage are several times as fast as one.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, ensure};
use c3_proto::pb::compressor_client::CompressorClient;
use c3_proto::pb::decoder_client::DecoderClient;
use c3_proto::pb::{DescribeRequest, NodeLoad};
use c3_sim::rule::{Autoscaler, Rule, SYNC_PERIOD};
use futures::future::try_join_all;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::harness::external;
use crate::harness::fixtures;
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::process::{Launch, Process, Program, free_address};
use crate::harness::prometheus::Prometheus;
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;

/// Share of a core that a node of each stage may use, in percent. A compressor is faster than a decoder.
const CPU_PERCENT: [u32; 2] = [6, 16];
/// Time from the decision to add a node until its program starts.
const START_DELAY: Duration = Duration::from_secs(10);
/// Windows of the rule for nodes that start in 10 s. The chart's are for 90 s.
const SCALE_UP_WINDOW: Duration = Duration::from_secs(15);
const SCALE_DOWN_WINDOW: Duration = Duration::from_secs(60);
/// Replicas of each stage.
const REPLICAS: std::ops::RangeInclusive<usize> = 1..=4;
/// Share of one node's time that the load takes before it grows: compressors, decoders, and the part of the decoders'
/// time that writes may take.
const BUSY: [f64; 2] = [0.4, 0.4];
const VERIFY_BUSY_MAX: f64 = 0.25;
/// Factor by which the load grows.
const FACTOR: f64 = 4.0;
/// Durations of the phases: before the load grows, while it is larger, and after it has fallen.
const BEFORE: Duration = Duration::from_secs(45);
const GROWN: Duration = Duration::from_secs(105);
const AFTER: Duration = Duration::from_secs(200);
/// The objective: a call ends within this time.
const OBJECTIVE: Duration = Duration::from_secs(10);
/// Maximum time after the growth of the load until calls that begin meet the objective.
const RECOVERY_MAX: Duration = Duration::from_secs(60);
/// Size of a text in bytes: some 300 tokens.
const TEXT_BYTES: usize = 1200;
/// Calls in flight, and their rounds, that measure the speed of the nodes.
const CALIBRATION: [usize; 2] = [6, 3];
/// Pause between two decisions about the load and the nodes.
const TICK: Duration = Duration::from_millis(50);
/// Maximum time until nodes have announced themselves.
const ANNOUNCE_LIMIT: Duration = Duration::from_secs(30);

/// The part of the load that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    /// Writes and reads, which fall again later.
    Both,
    /// Writes only.
    Writes,
    /// Reads only.
    Reads,
}

impl Growth {
    /// Returns the stages that are then short of nodes.
    fn short(self) -> Vec<&'static str> {
        match self {
            Self::Both | Self::Writes => vec!["compressor", "decoder"],
            Self::Reads => vec!["decoder"],
        }
    }
}

/// Runs one drill. The quantities begin with `row`.
pub(super) async fn drill(row: &str, text: &str, growth: Growth) -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-scaling-")?;
    let gateway = Launch::new(Program::Gateway).arg("--accept-nodes").arg("--data").arg(folder.path().join("data"));
    let gateway = gateway.serve(folder.path()).await?;
    let job = json!({"job_name": "gateway", "static_configs": [{"targets": [gateway.address()]}]});
    let prometheus = Prometheus::start(vec![job], &[]).await?;
    let mut pools = [
        Pool::new(Program::CompressorNode, "compressor", CPU_PERCENT[0])?,
        Pool::new(Program::DecoderNode, "decoder", CPU_PERCENT[1])?,
    ];
    for pool in &mut pools {
        pool.start(&gateway, folder.path()).await?;
    }
    let api = GatewayApi::to(&gateway)?;
    until("both nodes to be known", ANNOUNCE_LIMIT, async || (api.nodes().await.ok()?.len() == 2).then_some(())).await?;
    let texts = Arc::new(Texts(text.to_owned()));
    let load = Arc::new(Load::calibrated(api, &texts, &pools).await?);

    let begun = Instant::now();
    let _load = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&load).run(texts)));
    let mut phases = vec![(BEFORE, [1.0, 1.0])];
    phases.push(match growth {
        Growth::Both => (GROWN, [FACTOR, FACTOR]),
        Growth::Writes => (GROWN, [FACTOR, 1.0]),
        Growth::Reads => (GROWN, [1.0, FACTOR]),
    });
    if growth == Growth::Both {
        phases.push((AFTER, [1.0, 1.0]));
    }
    for (duration, factors) in phases {
        load.set_factors(factors);
        let end = Instant::now() + duration;
        while Instant::now() < end {
            for pool in &mut pools {
                pool.sync(begun, &prometheus, &gateway, folder.path()).await?;
            }
            sleep(TICK).await;
        }
    }
    load.set_factors([0.0, 0.0]);
    until("the last calls to end", 3 * OBJECTIVE, async || (load.in_flight() == 0).then_some(())).await?;
    for pool in &mut pools {
        pool.drain().await?;
    }
    Ok(quantities(row, growth, &pools, &load.calls(), begun))
}

fn quantities(row: &str, growth: Growth, pools: &[Pool], calls: &[Call], begun: Instant) -> Vec<Quantity> {
    let name = |what: &str| format!("{row}-{what}");
    let grown_at = begun + BEFORE;
    let late = calls.iter().filter(|call| call.took > OBJECTIVE);
    let (before, after): (Vec<&Call>, Vec<&Call>) = late.partition(|call| call.begun < grown_at);
    let recovery = after.iter().map(|call| (call.begun - grown_at).as_secs_f64()).fold(0.0, f64::max);
    let failed = Vec::from_iter(calls.iter().filter_map(|call| call.error.clone()));
    let grew = Vec::from_iter(pools.iter().filter(|pool| pool.most() > 1).map(|pool| pool.stage));
    let history = |pool: &Pool| Vec::from_iter(pool.history.iter().map(|(at, replicas)| (at.as_secs(), *replicas)));
    let mut quantities = vec![
        Quantity::reported(name("replicas"), pools.iter().map(history).collect::<Vec<_>>()),
        Quantity::observed(name("calls"), calls.len(), calls.len() > 50, "> 50"),
        Quantity::equal(name("failed-calls"), failed, Vec::new()),
        Quantity::equal(name("late-before"), before.len(), 0),
        Quantity::reported(name("late"), after.len()),
        Quantity::at_most(name("recovery-seconds"), recovery, RECOVERY_MAX.as_secs_f64()),
        Quantity::equal(name("grew"), grew, growth.short()),
        Quantity::equal(name("flaps"), pools.iter().map(Pool::flaps).sum::<usize>(), 0),
    ];
    if growth == Growth::Both {
        let last = Vec::from_iter(pools.iter().map(Pool::requested));
        quantities.push(Quantity::equal(name("replicas-at-the-end"), last, vec![1, 1]));
    }
    quantities
}

/// The nodes of one stage.
struct Pool {
    program: Program,
    stage: &'static str,
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
    history: Vec<(Duration, usize)>,
}

impl Pool {
    fn new(program: Program, stage: &'static str, cpu_percent: u32) -> Result<Self> {
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
    async fn sync(&mut self, begun: Instant, metrics: &Prometheus, gateway: &Process, folder: &Path) -> Result<()> {
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

    async fn start(&mut self, gateway: &Process, folder: &Path) -> Result<()> {
        let address = free_address()?;
        let launch = Launch::new(self.program).arg("--model").arg(fixtures::default_model()).args(["--threads", "1"]);
        let launch = launch.args(["--announce-to", &gateway.url(), "--advertise-as", &format!("http://{address}")]);
        let mut process = launch.arg("--listen").arg(&address).spawn(folder, address).await?;
        process.ready().await?;
        self.nodes.push(Node { limit: CpuLimit::new(&process, self.cpu_percent)?, process });
        Ok(())
    }

    /// Drains all nodes and waits until they have ended.
    async fn drain(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            node.limit.lift()?;
            node.process.terminate().await?;
        }
        Ok(())
    }

    /// Returns the number of nodes, including those that still start.
    fn requested(&self) -> usize {
        self.nodes.len() + self.starting.len()
    }

    /// Returns the largest number of nodes that was requested.
    fn most(&self) -> usize {
        self.history.iter().map(|(_, replicas)| *replicas).max().unwrap_or(1)
    }

    /// Returns the number of changes that add nodes after a change that removed some.
    fn flaps(&self) -> usize {
        let replicas = Vec::from_iter([1].into_iter().chain(self.history.iter().map(|(_, replicas)| *replicas)));
        replicas.windows(3).filter(|last| last[1] < last[0] && last[2] > last[1]).count()
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

/// Texts that differ from each other.
struct Texts(String);

impl Texts {
    fn get(&self, number: usize) -> Vec<u8> {
        let start = self.0.floor_char_boundary(number * TEXT_BYTES % (self.0.len() - 2 * TEXT_BYTES));
        let end = self.0.floor_char_boundary(start + TEXT_BYTES);
        format!("{number} {}", &self.0[start..end]).into_bytes()
    }
}

/// A call of the load.
#[derive(Clone, Debug)]
struct Call {
    begun: Instant,
    took: Duration,
    error: Option<String>,
}

/// Writes and reads at given rates, regardless of how long they take.
struct Load {
    api: GatewayApi,
    /// Documents to read, with their texts.
    documents: Vec<(String, Vec<u8>)>,
    /// Writes and reads per second before the load grows.
    rates: [f64; 2],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    factors: [f64; 2],
    begun: usize,
    calls: Vec<Call>,
}

impl Load {
    /// Measures the speed of one node of each stage, and chooses rates that keep each of them busy for the shares
    /// [`BUSY`] of the time.
    async fn calibrated(api: GatewayApi, texts: &Texts, pools: &[Pool]) -> Result<Self> {
        let [calls, rounds] = CALIBRATION;
        let (mut documents, mut tokens) = (Vec::new(), 0);
        for round in 0..rounds {
            let texts = (round * calls..(round + 1) * calls).map(|number| texts.get(number));
            let put = async |text: Vec<u8>| -> Result<_> {
                let document = api.put_at(&text, 20).await?.document.context("no document")?;
                Ok((document.tokens, (id_of(&document), text)))
            };
            for (count, document) in try_join_all(texts.map(put)).await? {
                tokens += count;
                documents.push(document);
            }
        }
        for documents in documents.chunks(calls) {
            try_join_all(documents.iter().map(|(id, _)| api.get(id))).await?;
        }
        let tokens = tokens as f64 / documents.len() as f64;
        let [compressor, decoder] = [describe(&pools[0]).await?, describe(&pools[1]).await?];
        let rates = [
            compressor.compress_tokens_per_second,
            decoder.verify_tokens_per_second,
            decoder.decode_tokens_per_second,
        ];
        let [compress, verify, decode] = rates.map(|rate| tokens / rate);
        let writes = (BUSY[0] / compress).min(VERIFY_BUSY_MAX / verify);
        let reads = (BUSY[1] - writes * verify) / decode;
        eprintln!("seconds for {tokens:.0} tokens: {compress:.2} {verify:.2} {decode:.2}; per second: {writes:.2} writes, {reads:.2} reads");
        ensure!(writes * compress * FACTOR > 1.0, "decoders are too slow beside compressors: change CPU_PERCENT");
        Ok(Self { api, documents, rates: [writes, reads], state: Mutex::default() })
    }

    async fn run(self: Arc<Self>, texts: Arc<Texts>) {
        let (mut due, mut last) = ([0.0, 0.0], Instant::now());
        let mut number = self.documents.len();
        loop {
            sleep(TICK).await;
            let (passed, factors) = (last.elapsed().as_secs_f64(), self.state().factors);
            last = Instant::now();
            for (kind, due) in due.iter_mut().enumerate() {
                *due += passed * self.rates[kind] * factors[kind];
                while *due >= 1.0 {
                    *due -= 1.0;
                    number += 1;
                    let text = (kind == 0).then(|| texts.get(number));
                    self.state().begun += 1;
                    tokio::spawn(Arc::clone(&self).call(number, text));
                }
            }
        }
    }

    /// Stores the text, or reads and compares one of the documents, and records the call.
    async fn call(self: Arc<Self>, number: usize, text: Option<Vec<u8>>) {
        let begun = Instant::now();
        let result = match text {
            Some(text) => self.api.put_at(&text, 20).await.map(drop).map_err(Error::from),
            None => {
                let (id, text) = &self.documents[number % self.documents.len()];
                let got = self.api.get(id).await.map_err(Error::from);
                got.and_then(|got| Ok(ensure!(got.text == *text, "the text of {id} is wrong")))
            }
        };
        let call = Call { begun, took: begun.elapsed(), error: result.err().map(|error| format!("{error:#}")) };
        self.state().calls.push(call);
    }

    fn set_factors(&self, factors: [f64; 2]) {
        self.state().factors = factors;
    }

    fn in_flight(&self) -> usize {
        let state = self.state();
        state.begun - state.calls.len()
    }

    fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the load of a pool's first node.
async fn describe(pool: &Pool) -> Result<NodeLoad> {
    let channel = pool.nodes.first().context("no node")?.process.channel()?;
    let described = match pool.program {
        Program::CompressorNode => CompressorClient::new(channel).describe(DescribeRequest {}).await?,
        _ => DecoderClient::new(channel).describe(DescribeRequest {}).await?,
    };
    described.into_inner().load.context("the node does not know its load")
}
