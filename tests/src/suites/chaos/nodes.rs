//! Nodes that die, hang, fall silent, slow down and are restarted, under load: no caller notices.

use std::time::Duration;

use anyhow::{Context, Result};
use c3_proto::pb::NodeState;
use tokio::time::{Instant, sleep};

use super::liar::Liar;
use super::load::{Caller, Load, Tally, Work, p50, p99};
use crate::calls::Calls;
use crate::cluster::{Cluster, Plan};
use crate::hang::Held;
use crate::proxy::Wire;
use crate::row::Row;
use crate::store::ops::Dice;
use crate::wait::until;

/// Nodes of each stage.
const NODES: usize = 3;
/// Callers: more than the two cores can serve at once, so that capacity is used up.
const CALLERS: usize = 8;
/// Most documents that are read, and their size.
const DOCUMENTS_MAX: usize = 16;
const BYTES: usize = 3_000;
/// Longest time until a node has a call in flight.
const BUSY_LIMIT: Duration = Duration::from_secs(60);
/// Longest time until a node's share must have moved.
const MOVED_MAX: f64 = 5.0;
/// Longest time until nodes that answer wrong were each asked.
const LIARS_MAX: Duration = Duration::from_secs(60);

/// Nodes under load.
struct Scene {
    cluster: Cluster,
    calls: Calls,
    load: Load,
}

impl Scene {
    async fn begin(plan: Plan, text: &str) -> Result<Self> {
        let cluster = Plan { compressors: NODES, decoders: NODES, ..plan }.start().await?;
        let calls = cluster.calls()?;
        let work = prepare(&calls, text).await?;
        let load = work.start(&Caller::Bare(calls.clone()), CALLERS);
        Ok(Self { cluster, calls, load })
    }

    /// Waits until a node has calls in flight.
    async fn busy(&self, number: usize) -> Result<()> {
        let address = self.cluster.address(number);
        let busy = until("the node to be at work", BUSY_LIMIT, async || {
            let nodes = self.calls.nodes().await.ok()?;
            let node = nodes.into_iter().find(|node| node.address == address)?;
            (node.calls_in_flight > 0).then_some(())
        });
        busy.await
    }

    /// Seconds until the gateway gives a node no calls and waits for none of it.
    async fn moved(&self, number: usize) -> Result<f64> {
        let (address, begun) = (self.cluster.address(number), Instant::now());
        let moved = until("the node's share to move", BUSY_LIMIT, async || {
            let nodes = self.calls.nodes().await.ok()?;
            let node = nodes.into_iter().find(|node| node.address == address)?;
            (node.state() != NodeState::Ready && node.calls_in_flight == 0).then_some(())
        });
        moved.await?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Silences a node of each stage that is at work, for so long, and measures how soon its share moves.
    async fn silence(
        &mut self,
        name: &str,
        what: &str,
        lasts: Duration,
        mut set_silent: impl FnMut(&mut Cluster, usize, bool) -> Result<()>,
    ) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for (stage, number) in [("compressor", 0), ("decoder", NODES)] {
            self.busy(number).await?;
            let begun = Instant::now();
            set_silent(&mut self.cluster, number, true)?;
            let moved = self.moved(number).await;
            sleep(lasts.saturating_sub(begun.elapsed())).await;
            set_silent(&mut self.cluster, number, false)?;
            rows.push(Row::at_most(format!("{name}-{stage}-{what}-seconds"), moved?, MOVED_MAX));
            self.cluster.becomes_whole().await?;
        }
        Ok(rows)
    }

    async fn end(self) -> Result<(Cluster, Calls, Tally)> {
        let tally = self.load.end().await?;
        Ok((self.cluster, self.calls, tally))
    }
}

/// What the callers work on: of a short text few documents.
pub(super) async fn prepare(calls: &Calls, text: &str) -> Result<Work> {
    Work::prepare(calls, text, (text.len() / BYTES).clamp(2, DOCUMENTS_MAX), BYTES).await
}

/// The rows that every load has.
pub(super) async fn verdict(name: &str, calls: &Calls, tally: &Tally) -> Vec<Row> {
    let (failed, said) = tally.failures();
    vec![
        Row::seen(format!("{name}-calls"), tally.well, tally.well > 0, "some"),
        Row::seen(format!("{name}-failed"), (failed, said), failed == 0, "= 0"),
        Row::equal(format!("{name}-wrong-texts"), tally.wrong, 0),
        Row::equal(format!("{name}-acknowledged-lost"), tally.lost(calls).await, Vec::new()),
    ]
}

/// Kills -9 of nodes with calls in flight, each started anew before the next.
pub async fn kills(text: &str, count: usize, seed: u64) -> Result<Vec<Row>> {
    let (mut scene, mut dice) = (Scene::begin(Plan::default(), text).await?, Dice::new(seed));
    let mut in_flight = 0;
    for _ in 0..count {
        let number = dice.roll(scene.cluster.nodes());
        scene.busy(number).await?;
        in_flight += 1;
        scene.cluster.node(number).kill()?;
        scene.cluster.start_again(number).await?;
        scene.cluster.becomes_whole().await?;
    }
    let (_cluster, calls, tally) = scene.end().await?;
    let mut rows = vec![Row::equal(format!("kills-with-calls-in-flight (seed {seed})"), in_flight, count)];
    rows.extend(verdict("kills", &calls, &tally).await);
    Ok(rows)
}

/// A node of each stage that hangs for a while.
pub async fn stopped(text: &str, hangs: Duration) -> Result<Vec<Row>> {
    let mut scene = Scene::begin(Plan::default(), text).await?;
    let hang = |cluster: &mut Cluster, number, hangs| {
        cluster.node(number).signal(if hangs { "STOP" } else { "CONT" })
    };
    let mut rows = scene.silence("stopped", "share-moves", hangs, hang).await?;
    let (_cluster, calls, tally) = scene.end().await?;
    rows.extend(verdict("stopped", &calls, &tally).await);
    Ok(rows)
}

/// A node of each stage whose device does not come back for a while: the program answers, its model's threads stand.
pub async fn hung(text: &str, hangs: Duration) -> Result<Vec<Row>> {
    let node_args = ["--stall-ms", "2000"].map(str::to_owned).to_vec();
    let mut scene = Scene::begin(Plan { node_args, ..Plan::default() }, text).await?;
    let mut held = None;
    let hang = |cluster: &mut Cluster, number: usize, hangs: bool| {
        let model = if number < NODES { "c3-compress" } else { "c3-decode" };
        let hold = || Held::hold(cluster.node(number).id(), model);
        held = hangs.then(hold).transpose()?;
        Ok(())
    };
    let mut rows = scene.silence("hung", "share-moves", hangs, hang).await?;
    let (_cluster, calls, tally) = scene.end().await?;
    rows.extend(verdict("hung", &calls, &tally).await);
    Ok(rows)
}

/// A connection whose packets vanish both ways, for a node of each stage.
pub async fn half_open(text: &str, vanish: Duration) -> Result<Vec<Row>> {
    let mut scene = Scene::begin(Plan { proxied: true, ..Plan::default() }, text).await?;
    let cut = |cluster: &mut Cluster, number: usize, dead| {
        cluster.proxies[number].set(Wire { dead, ..Wire::default() });
        Ok(())
    };
    let mut rows = scene.silence("half-open", "left-out", vanish, cut).await?;
    let (_cluster, calls, tally) = scene.end().await?;
    rows.extend(verdict("half-open", &calls, &tally).await);
    Ok(rows)
}

/// Every node restarted in good order, one after another.
pub async fn rolling(text: &str, rounds: usize) -> Result<Vec<Row>> {
    let mut scene = Scene::begin(Plan::default(), text).await?;
    for _ in 0..rounds {
        for number in 0..scene.cluster.nodes() {
            scene.cluster.node(number).terminate().await?;
            scene.cluster.start_again(number).await?;
            scene.cluster.becomes_whole().await?;
        }
    }
    let (_cluster, calls, tally) = scene.end().await?;
    Ok(verdict("rolling-nodes", &calls, &tally).await)
}

/// One of three decoders that gets a tenth of its time: gets beside those without it, of as many callers as are left of
/// nodes: more would tell what a node less costs.
pub async fn slow(text: &str, spell: Duration) -> Result<Vec<Row>> {
    const P99_MAX: f64 = 1.5;
    const CALLERS: usize = NODES - 1;
    let (period, mut cluster) = (Duration::from_millis(50), Plan::default());
    (cluster.compressors, cluster.decoders) = (1, NODES);
    let cluster = cluster.start().await?;
    let calls = cluster.calls()?;
    // Short ones: of a hundred calls the 99th percentile is the one that was worst.
    let work = Work::prepare(&calls, text, 40, 200).await?.of_gets();
    let by = Caller::Bare(calls.clone());
    let load = work.start(&by, CALLERS);
    sleep(spell).await;
    let before = load.end().await?;
    let load = work.start(&by, CALLERS);
    let (node, begun) = (&cluster.decoders[0], Instant::now());
    while begun.elapsed() < spell {
        node.signal("STOP")?;
        sleep(period * 9).await;
        node.signal("CONT")?;
        sleep(period).await;
    }
    let tally = load.end().await?;
    let mut rows = verdict("slow", &calls, &tally).await;
    rows.push(Row::seen("slow-nodes-left-out", left_out(&cluster), true, "told only"));
    let seconds = [&before, &tally].map(|tally| [p50(&tally.gets), p99(&tally.gets)]);
    rows.push(Row::seen("slow-p50-p99-seconds-without-and-with", seconds, true, "told only"));
    rows.push(Row::at_most("slow-node-p99-over-without", p99(&tally.gets) / p99(&before.gets), P99_MAX));
    Ok(rows)
}

/// A node of each stage that answers with something else than its model gave, beside true ones.
pub async fn liars(text: &str, spell: Duration) -> Result<Vec<Row>> {
    // The truth behind a liar takes no calls of its own.
    let mut behind = Plan::default().start().await?;
    let lying = [Liar::compressor(&behind.compressors[0]).await?, Liar::decoder(&behind.decoders[0]).await?];
    behind.gateway.kill()?;
    let stages = ["--compressor", "--decoder"];
    let of = |(stage, liar): (&str, &Liar)| [stage.to_owned(), format!("http://{}", liar.address)];
    let gateway_args = stages.into_iter().zip(&lying).flat_map(of).collect();
    let cluster = Plan { compressors: 2, decoders: 2, gateway_args, ..Plan::default() }.start().await?;
    let calls = cluster.calls()?;
    let work = prepare(&calls, text).await?;
    let load = work.start(&Caller::Bare(calls.clone()), CALLERS);
    let is_out = |liar: &Liar| {
        let (log, address) = (cluster.gateway.log(), liar.address.to_string());
        log.lines().any(|line| line.contains("left out") && line.contains(&address))
    };
    sleep(spell).await;
    // A machine that is busy may not have asked each of them by then. Whether it has in the end, the rows tell.
    let all_out = async || lying.iter().all(is_out).then_some(());
    let _ = until("the liars to be left out", LIARS_MAX.saturating_sub(spell), all_out).await;
    let tally = load.end().await?;
    let mut rows = verdict("liars", &calls, &tally).await;
    for (stage, liar) in stages.into_iter().zip(&lying) {
        let name = format!("liars-{}-left-out", stage.trim_start_matches('-'));
        rows.push(Row::holds(name, is_out(liar), "it is left out"));
    }
    Ok(rows)
}

/// Puts at one instant, then gets of short documents at one instant.
pub async fn bursts(puts: usize, gets: usize) -> Result<Vec<Row>> {
    let wide = ["--calls-max", "4096"].map(str::to_owned);
    let plan = Plan { node_args: wide.to_vec(), gateway_args: wide.to_vec(), ..Plan::default() };
    let cluster = Plan { compressors: NODES, decoders: NODES, ..plan }.start().await?;
    let calls = cluster.calls()?;
    let text = |number: usize| format!("{number}: the quick brown fox jumps over the lazy dog. ").repeat(4);
    let at_once = |count: usize| {
        let calls = calls.clone();
        futures::future::join_all((0..count).map(move |number| {
            let calls = calls.clone();
            async move { calls.put_at(text(number).as_bytes(), 20).await }
        }))
    };
    let put: Vec<_> = at_once(puts).await;
    let failed = Vec::from_iter(put.iter().filter_map(|put| put.as_ref().err()).map(ToString::to_string));
    let ids =
        Vec::from_iter(put.iter().flatten().filter_map(|put| put.document.as_ref()).map(crate::calls::id_of));
    let mut rows = vec![Row::equal("burst-puts-failed", failed, Vec::new())];
    let id = |number: usize| &ids[number % ids.len()];
    let got = futures::future::join_all((0..gets).map(|number| calls.get(id(number)))).await;
    let failed = got.iter().filter(|got| got.is_err()).count();
    let said = got.iter().find_map(|got| got.as_ref().err()).map(ToString::to_string);
    rows.push(Row::seen("burst-gets-failed", (failed, said), failed == 0, "= 0"));
    let right =
        got.iter().flatten().enumerate().all(|(number, got)| got.text == text(number % ids.len()).as_bytes());
    rows.push(Row::holds("burst-gets-right", right, "the texts that were put"));
    rows.push(Row::equal("burst-nodes-left-out", left_out(&cluster), Vec::new()));
    Ok(rows)
}

/// What the gateway says of nodes that it left out.
fn left_out(cluster: &Cluster) -> Vec<String> {
    let log = cluster.gateway.log();
    let said = log.lines().filter(|line| line.contains("left out") || line.contains("is not ready"));
    said.map(str::to_owned).collect()
}

/// One document of several windows read by many at one instant.
pub async fn hot(text: &str, callers: usize) -> Result<Vec<Row>> {
    let cluster = Plan { decoders: NODES, ..Plan::default() }.start().await?;
    let calls = cluster.calls()?;
    let document = calls.put_at(text.as_bytes(), 20).await?.document.context("no document")?;
    let id = crate::calls::id_of(&document);
    let before = decoded(&cluster).await?;
    let got = futures::future::join_all((0..callers).map(|_| calls.get(&id))).await;
    let right = got.iter().all(|got| got.as_ref().is_ok_and(|got| got.text == text.as_bytes()));
    let decoded = Vec::from_iter(decoded(&cluster).await?.iter().zip(before).map(|(now, then)| now - then));
    Ok(vec![
        Row::holds("hot-right", right, "every caller has the text"),
        Row::equal("hot-windows-decoded", decoded.iter().sum::<u64>(), document.windows),
        Row::seen("hot-windows-each-node", &decoded, decoded.iter().all(|&windows| windows > 0), "each some"),
    ])
}

async fn decoded(cluster: &Cluster) -> Result<Vec<u64>> {
    let mut counts = Vec::new();
    for node in &cluster.decoders {
        let client = c3_proto::pb::decoder_client::DecoderClient::new(node.channel()?);
        let said = { client }.describe(c3_proto::pb::DescribeRequest {}).await?.into_inner();
        counts.push(said.counters.context("no counters")?.windows_decoded);
    }
    Ok(counts)
}
