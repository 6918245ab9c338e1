//! Nodes that are killed, hang, become unreachable, slow down or restart under load. No call may fail, no text may be
//! wrong, and no acknowledged document may be lost.

use std::time::Duration;

use anyhow::{Context, Result};
use c3_proto::pb::NodeState;
use tokio::time::{Instant, sleep};

use super::byzantine::ByzantineNode;
use super::load::{Load, LoadClient, LoadReport, Workload, p50, p99};
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::gateway_api::GatewayApi;
use crate::harness::proxy::Link;
use crate::harness::ptrace::StoppedThreads;
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;
use crate::suites::store::ops::Rng;

/// Number of nodes of each stage.
const NODES: usize = 3;
/// Number of concurrent clients. Enough to saturate the nodes on a machine with two cores.
const CLIENTS: usize = 8;
/// Maximum number of documents.
const DOCUMENTS_MAX: usize = 16;
const BYTES: usize = 3_000;
/// Maximum time until a node has a call in flight, or until a lost node has none.
const BUSY_LIMIT: Duration = Duration::from_secs(60);
/// Bound on the seconds until a lost node has no calls in flight.
const MOVED_MAX: f64 = 5.0;
/// Maximum time until the gateway has called each corrupt node and ejected it.
const EJECTION_LIMIT: Duration = Duration::from_secs(60);

/// Cluster under load.
struct Scenario {
    cluster: Cluster,
    api: GatewayApi,
    load: Load,
}

impl Scenario {
    async fn begin(spec: ClusterSpec, text: &str) -> Result<Self> {
        let cluster = ClusterSpec { compressors: NODES, decoders: NODES, ..spec }.start().await?;
        let api = cluster.api()?;
        let work = prepare(&api, text).await?;
        let load = work.start(&LoadClient::Raw(api.clone()), CLIENTS);
        Ok(Self { cluster, api, load })
    }

    /// Waits until node `number` has calls in flight.
    async fn busy(&self, number: usize) -> Result<()> {
        let address = self.cluster.address(number);
        let busy = until("the node to be at work", BUSY_LIMIT, async || {
            let nodes = self.api.nodes().await.ok()?;
            let node = nodes.into_iter().find(|node| node.address == address)?;
            (node.calls_in_flight > 0).then_some(())
        });
        busy.await
    }

    /// Waits until the gateway reports that node `number` is not ready and has no calls in flight. Returns the seconds
    /// that this took.
    async fn moved(&self, number: usize) -> Result<f64> {
        let (address, started) = (self.cluster.address(number), Instant::now());
        let moved = until("the node's share to move", BUSY_LIMIT, async || {
            let nodes = self.api.nodes().await.ok()?;
            let node = nodes.into_iter().find(|node| node.address == address)?;
            (node.state() != NodeState::Ready && node.calls_in_flight == 0).then_some(())
        });
        moved.await?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Silences one busy node of each stage, one after the other, for `duration` each. Measures the time until the
    /// gateway has moved that node's calls to other nodes. `set_silent` starts (`true`) or ends (`false`) the silence
    /// of a node.
    async fn silence(
        &mut self,
        name: &str,
        what: &str,
        duration: Duration,
        mut set_silent: impl FnMut(&mut Cluster, usize, bool) -> Result<()>,
    ) -> Result<Vec<Quantity>> {
        let mut quantities = Vec::new();
        for (stage, number) in [("compressor", 0), ("decoder", NODES)] {
            self.busy(number).await?;
            let started = Instant::now();
            set_silent(&mut self.cluster, number, true)?;
            let moved = self.moved(number).await;
            sleep(duration.saturating_sub(started.elapsed())).await;
            set_silent(&mut self.cluster, number, false)?;
            quantities.push(Quantity::at_most(format!("{name}-{stage}-{what}-seconds"), moved?, MOVED_MAX));
            self.cluster.wait_until_ready().await?;
        }
        Ok(quantities)
    }

    async fn end(self) -> Result<(Cluster, GatewayApi, LoadReport)> {
        let report = self.load.end().await?;
        Ok((self.cluster, self.api, report))
    }
}

/// Stores the documents of a workload: at most [`DOCUMENTS_MAX`], fewer if the text is short.
pub(super) async fn prepare(api: &GatewayApi, text: &str) -> Result<Workload> {
    Workload::prepare(api, text, (text.len() / BYTES).clamp(2, DOCUMENTS_MAX), BYTES).await
}

/// Returns the quantities that all loads have in common: successful calls, failed calls, wrong texts, and lost
/// documents.
pub(super) async fn verdict(name: &str, api: &GatewayApi, report: &LoadReport) -> Vec<Quantity> {
    let (failed, messages) = report.failures();
    vec![
        Quantity::observed(format!("{name}-calls"), report.succeeded, report.succeeded > 0, "at least 1"),
        Quantity::observed(format!("{name}-failed"), (failed, messages), failed == 0, "= 0"),
        Quantity::equal(format!("{name}-wrong-texts"), report.wrong, 0),
        Quantity::equal(format!("{name}-acknowledged-lost"), report.lost(api).await, Vec::new()),
    ]
}

/// Kills `count` random nodes with SIGKILL while they have calls in flight; no call may fail. Restarts each node before
/// the next kill.
pub async fn kills(text: &str, count: usize, seed: u64) -> Result<Vec<Quantity>> {
    let (mut scenario, mut rng) = (Scenario::begin(ClusterSpec::default(), text).await?, Rng::new(seed));
    let mut in_flight = 0;
    for _ in 0..count {
        let number = rng.below(scenario.cluster.nodes());
        scenario.busy(number).await?;
        in_flight += 1;
        scenario.cluster.node(number).kill()?;
        scenario.cluster.restart_node(number).await?;
        scenario.cluster.wait_until_ready().await?;
    }
    let (_cluster, api, report) = scenario.end().await?;
    let mut quantities = vec![Quantity::equal(format!("kills-with-calls-in-flight (seed {seed})"), in_flight, count)];
    quantities.extend(verdict("kills", &api, &report).await);
    Ok(quantities)
}

/// Stops the process of one node of each stage with SIGSTOP for the duration `hangs`; no call may fail, and the gateway
/// must move the node's calls to other nodes within [`MOVED_MAX`] seconds.
pub async fn stopped(text: &str, hangs: Duration) -> Result<Vec<Quantity>> {
    let mut scenario = Scenario::begin(ClusterSpec::default(), text).await?;
    let hang = |cluster: &mut Cluster, number, hangs| cluster.node(number).signal(if hangs { "STOP" } else { "CONT" });
    let mut quantities = scenario.silence("stopped", "share-moves", hangs, hang).await?;
    let (_cluster, api, report) = scenario.end().await?;
    quantities.extend(verdict("stopped", &api, &report).await);
    Ok(quantities)
}

/// Stops the model threads of one node of each stage for the duration `hangs`; no call may fail, and the gateway must
/// move the node's calls to other nodes within [`MOVED_MAX`] seconds. This simulates a device that never answers: the
/// gRPC server of the node keeps answering.
pub async fn hung(text: &str, hangs: Duration) -> Result<Vec<Quantity>> {
    let node_args = ["--stall-timeout", "2s"].map(str::to_owned).to_vec();
    let mut scenario = Scenario::begin(ClusterSpec { node_args, ..ClusterSpec::default() }, text).await?;
    let mut held = None;
    let hang = |cluster: &mut Cluster, number: usize, hangs: bool| {
        let model = if number < NODES { "c3-compress" } else { "c3-decode" };
        let hold = || StoppedThreads::stop(cluster.node(number).id(), model);
        held = hangs.then(hold).transpose()?;
        Ok(())
    };
    let mut quantities = scenario.silence("hung", "share-moves", hangs, hang).await?;
    let (_cluster, api, report) = scenario.end().await?;
    quantities.extend(verdict("hung", &api, &report).await);
    Ok(quantities)
}

/// Forwards no data to or from one node of each stage for the duration `vanish`, while connections stay open; no call
/// may fail, and the gateway must move the node's calls to other nodes within [`MOVED_MAX`] seconds.
pub async fn half_open(text: &str, vanish: Duration) -> Result<Vec<Quantity>> {
    let mut scenario = Scenario::begin(ClusterSpec { proxied: true, ..ClusterSpec::default() }, text).await?;
    let cut = |cluster: &mut Cluster, number: usize, dead| {
        cluster.proxies[number].set(Link { dead, ..Link::default() });
        Ok(())
    };
    let mut quantities = scenario.silence("half-open", "left-out", vanish, cut).await?;
    let (_cluster, api, report) = scenario.end().await?;
    quantities.extend(verdict("half-open", &api, &report).await);
    Ok(quantities)
}

/// Drains and restarts every node, one after another, `rounds` times; no call may fail.
pub async fn rolling(text: &str, rounds: usize) -> Result<Vec<Quantity>> {
    let mut scenario = Scenario::begin(ClusterSpec::default(), text).await?;
    for _ in 0..rounds {
        for number in 0..scenario.cluster.nodes() {
            scenario.cluster.node(number).terminate().await?;
            scenario.cluster.restart_node(number).await?;
            scenario.cluster.wait_until_ready().await?;
        }
    }
    let (_cluster, api, report) = scenario.end().await?;
    Ok(verdict("rolling-nodes", &api, &report).await)
}

/// Slows one of three decoders down to a tenth of its speed; the p99 latency of gets may at most double, and no call
/// may fail. The decoder is stopped for nine tenths of the time. There are only as many clients as undisturbed
/// decoders, which therefore have enough capacity.
pub async fn slow(text: &str, duration: Duration) -> Result<Vec<Quantity>> {
    const P99_MAX: f64 = 2.0;
    const CLIENTS: usize = NODES - 1;
    let (period, mut cluster) = (Duration::from_millis(50), ClusterSpec::default());
    (cluster.compressors, cluster.decoders) = (1, NODES);
    let cluster = cluster.start().await?;
    let api = cluster.api()?;
    // Short documents allow hundreds of calls. With a hundred calls, p99 would be close to the slowest single call.
    let work = Workload::prepare(&api, text, 40, 200).await?.of_gets();
    let by = LoadClient::Raw(api.clone());
    let load = work.start(&by, CLIENTS);
    sleep(duration).await;
    let before = load.end().await?;
    let load = work.start(&by, CLIENTS);
    let (node, started) = (&cluster.decoders[0], Instant::now());
    while started.elapsed() < duration {
        node.signal("STOP")?;
        sleep(period * 9).await;
        node.signal("CONT")?;
        sleep(period).await;
    }
    let report = load.end().await?;
    let mut quantities = verdict("slow", &api, &report).await;
    quantities.push(Quantity::reported("slow-nodes-ejected", ejections(&cluster)));
    let seconds = [&before, &report].map(|report| [p50(&report.gets), p99(&report.gets)]);
    quantities.push(Quantity::reported("slow-p50-p99-seconds-without-and-with", seconds));
    quantities.push(Quantity::at_most("slow-node-p99-over-without", p99(&report.gets) / p99(&before.gets), P99_MAX));
    Ok(quantities)
}

/// Runs one corrupt node of each stage beside two correct ones; the gateway must eject both corrupt nodes, no call may
/// fail, and no text may be wrong.
pub async fn byzantine(text: &str, duration: Duration) -> Result<Vec<Quantity>> {
    // The real nodes behind the corrupt ones are in a cluster of their own, whose gateway must not call them.
    let mut behind = ClusterSpec::default().start().await?;
    let corrupt =
        [ByzantineNode::compressor(&behind.compressors[0]).await?, ByzantineNode::decoder(&behind.decoders[0]).await?];
    behind.gateway.kill()?;
    let stages = ["--compressor", "--decoder"];
    let of = |(stage, node): (&str, &ByzantineNode)| [stage.to_owned(), format!("http://{}", node.address)];
    let gateway_args = stages.into_iter().zip(&corrupt).flat_map(of).collect();
    let cluster = ClusterSpec { compressors: 2, decoders: 2, gateway_args, ..ClusterSpec::default() }.start().await?;
    let api = cluster.api()?;
    let work = prepare(&api, text).await?;
    let load = work.start(&LoadClient::Raw(api.clone()), CLIENTS);
    let is_ejected = |node: &ByzantineNode| {
        let (log, address) = (cluster.gateway.log(), node.address.to_string());
        log.lines().any(|line| line.contains("is ejected") && line.contains(&address))
    };
    sleep(duration).await;
    // On a busy machine the gateway may need longer to call each corrupt node. If this wait times out, the quantities
    // below show it.
    let all_ejected = async || corrupt.iter().all(is_ejected).then_some(());
    let _ = until("the corrupt nodes to be ejected", EJECTION_LIMIT.saturating_sub(duration), all_ejected).await;
    let report = load.end().await?;
    let mut quantities = verdict("byzantine", &api, &report).await;
    for (stage, node) in stages.into_iter().zip(&corrupt) {
        let name = format!("byzantine-{}-ejected", stage.trim_start_matches('-'));
        quantities.push(Quantity::holds(name, is_ejected(node), "ejected"));
    }
    Ok(quantities)
}

/// Sends `puts` concurrent puts of short documents, then `gets` concurrent gets of these documents; all must succeed,
/// and the gateway must eject no node.
pub async fn bursts(puts: usize, gets: usize) -> Result<Vec<Quantity>> {
    let wide = ["--calls-max", "4096"].map(str::to_owned);
    let spec = ClusterSpec { node_args: wide.to_vec(), gateway_args: wide.to_vec(), ..ClusterSpec::default() };
    let cluster = ClusterSpec { compressors: NODES, decoders: NODES, ..spec }.start().await?;
    let api = cluster.api()?;
    let text = |number: usize| format!("{number}: the quick brown fox jumps over the lazy dog. ").repeat(4);
    let at_once = |count: usize| {
        let api = api.clone();
        futures::future::join_all((0..count).map(move |number| {
            let api = api.clone();
            async move { api.put_at(text(number).as_bytes(), 20).await }
        }))
    };
    let put: Vec<_> = at_once(puts).await;
    let failed = Vec::from_iter(put.iter().filter_map(|put| put.as_ref().err()).map(ToString::to_string));
    let ids = Vec::from_iter(
        put.iter().flatten().filter_map(|put| put.document.as_ref()).map(crate::harness::gateway_api::id_of),
    );
    let mut quantities = vec![Quantity::equal("burst-puts-failed", failed, Vec::new())];
    let id = |number: usize| &ids[number % ids.len()];
    let got = futures::future::join_all((0..gets).map(|number| api.get(id(number)))).await;
    let failed = got.iter().filter(|got| got.is_err()).count();
    let message = got.iter().find_map(|got| got.as_ref().err()).map(ToString::to_string);
    quantities.push(Quantity::observed("burst-gets-failed", (failed, message), failed == 0, "= 0"));
    let right = got.iter().flatten().enumerate().all(|(number, got)| got.text == text(number % ids.len()).as_bytes());
    quantities.push(Quantity::holds("burst-gets-right", right, "the texts that were put"));
    quantities.push(Quantity::equal("burst-nodes-ejected", ejections(&cluster), Vec::new()));
    Ok(quantities)
}

/// Returns the gateway's log lines about nodes that are ejected or not ready.
fn ejections(cluster: &Cluster) -> Vec<String> {
    let log = cluster.gateway.log();
    let lines = log.lines().filter(|line| line.contains("is ejected") || line.contains("is not ready"));
    lines.map(str::to_owned).collect()
}

/// Reads one document with `clients` concurrent calls; each of its windows (parts of the text) must be decoded only
/// once, and every decoder must decode some.
pub async fn hot(text: &str, clients: usize) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec { decoders: NODES, ..ClusterSpec::default() }.start().await?;
    let api = cluster.api()?;
    let document = api.put_at(text.as_bytes(), 20).await?.document.context("no document")?;
    let id = crate::harness::gateway_api::id_of(&document);
    let before = decoded(&cluster).await?;
    let got = futures::future::join_all((0..clients).map(|_| api.get(&id))).await;
    let right = got.iter().all(|got| got.as_ref().is_ok_and(|got| got.text == text.as_bytes()));
    let decoded = Vec::from_iter(decoded(&cluster).await?.iter().zip(before).map(|(now, then)| now - then));
    Ok(vec![
        Quantity::holds("hot-right", right, "every client gets the text"),
        Quantity::equal("hot-windows-decoded", decoded.iter().sum::<u64>(), document.windows),
        Quantity::observed(
            "hot-windows-each-node",
            &decoded,
            decoded.iter().all(|&windows| windows > 0),
            "at least 1 each",
        ),
    ])
}

async fn decoded(cluster: &Cluster) -> Result<Vec<u64>> {
    let mut counts = Vec::new();
    for node in &cluster.decoders {
        let client = c3_proto::pb::decoder_client::DecoderClient::new(node.channel()?);
        let described = { client }.describe(c3_proto::pb::DescribeRequest {}).await?.into_inner();
        counts.push(described.counters.context("no counters")?.windows_decoded);
    }
    Ok(counts)
}
