//! Clients that cancel calls, overload the system, or compete with each other.

use std::iter::zip;
use std::slice;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::load::{Workload, p50, p99};
use super::read_load::ReadLoad;
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::gateway_api::{GatewayApi, first_text};
use crate::harness::process::{Launch, Program};
use crate::harness::quantity::{Quantity, median};
use crate::harness::wait::until;

/// Maximum time to wait for an event that should be immediate.
const LIMIT: Duration = Duration::from_secs(60);
/// Number of connections that share the overload.
const CONNECTIONS: usize = 8;

/// Starts `clients` reads of `documents` documents and cancels all of them at the same moment; the gateway and the
/// decoder must have no work left within a second. The gateway must have accepted every read.
pub async fn cancelled(text: &str, clients: usize, documents: usize) -> Result<Vec<Quantity>> {
    const FREE_MAX: f64 = 1.0;
    let wide = ["--calls-max", "8192", "--look-ahead", "2"].map(str::to_owned);
    let cluster = ClusterSpec { gateway_args: wide.to_vec(), node_args: wide[..2].to_vec(), ..ClusterSpec::default() };
    let cluster = cluster.start().await?;
    let api = cluster.api()?;
    // Several documents are read, because all readers of one window (a part of a text that is decoded as a unit) share
    // its decoding.
    let documents = Workload::prepare(&api, text, documents, 10_000).await?;
    let ids = documents.documents().iter().map(|(id, _)| id.clone());
    let open = |id: String| {
        let api = api.clone();
        async move { api.open(&id).await }
    };
    let streams: Vec<_> = join_all(ids.cycle().take(clients).map(open)).await;
    let opened = streams.iter().filter(|stream| stream.is_ok()).count();
    let mut streams = streams.into_iter().flatten().collect::<Vec<_>>();
    let first = streams.first_mut().context("no call was accepted")?;
    ensure!(!first_text(first).await?.is_empty(), "no text came");
    let left = Instant::now();
    drop(streams);
    let free = until("every slot to be free", LIMIT, async || {
        let load = cluster.describe_decoder().await.ok()?.load?;
        let nodes = api.nodes().await.ok()?;
        let in_flight: u32 = nodes.iter().map(|node| node.calls_in_flight).sum();
        (load.queued_tokens + load.running_tokens == 0 && in_flight == 0).then_some(())
    });
    free.await?;
    let seconds = left.elapsed().as_secs_f64();
    Ok(vec![
        Quantity::equal("cancelled-clients", opened, clients),
        Quantity::at_most("cancelled-slots-free-seconds", seconds, FREE_MAX),
    ])
}

/// Offers the gateway ten times the load that it can serve; it must still answer at nine tenths of its peak rate and
/// refuse all other calls with a retry delay. The programs' memory may grow by at most a fifth.
///
/// Alternates between two loads. First, closed-loop clients measure the peak rate, one client for each call that the
/// gateway accepts at a time. Then, open-loop load starts calls at ten times the peak rate.
pub async fn overload(text: &str, duration: Duration) -> Result<Vec<Quantity>> {
    const TIMES: f64 = 10.0;
    const GOODPUT_MIN: f64 = 0.9;
    const GROWTH_MAX: f64 = 1.2;
    /// Number of concurrent calls that the gateway accepts: a few seconds of work. It refuses further calls
    /// immediately.
    const SLOTS: usize = 16;
    const ROUNDS: usize = 3;
    let cluster = ClusterSpec::with_gateway_args(&["--calls-max", &SLOTS.to_string()]).start().await?;
    // Several connections are needed, because the gateway accepts fewer than `SLOTS` concurrent calls from a single
    // connection.
    let connections = (0..CONNECTIONS).map(|_| cluster.api()).collect::<Result<Vec<_>>>()?;
    let work = Workload::prepare(&connections[0], text, 2 * SLOTS, 1_500).await?;
    let load = ReadLoad::new(connections, work);
    let mut peaks = vec![load.closed_loop(SLOTS, duration).await?];
    let refused = load.refused();
    let memory = peak_memory(&cluster)?;
    let mut goodputs = Vec::new();
    for _ in 0..ROUNDS {
        cluster.wait_until_idle().await?;
        goodputs.push(load.open_loop(TIMES * peaks[peaks.len() - 1], SLOTS, duration).await?);
        cluster.wait_until_idle().await?;
        peaks.push(load.closed_loop(SLOTS, duration).await?);
    }
    // Divides each goodput by the mean of the peak rates before and after it, because the machine's speed drifts.
    let ratios = zip(&goodputs, peaks.windows(2)).map(|(goodput, peaks)| 2.0 * goodput / (peaks[0] + peaks[1]));
    let growth = peak_memory(&cluster)? as f64 / memory as f64;
    let mut quantities = vec![
        Quantity::equal("overload-refused-without-overload", refused, 0),
        Quantity::reported("overload-peaks-calls-per-second", &peaks),
        Quantity::reported("overload-goodputs-calls-per-second", &goodputs),
        Quantity::at_least("overload-goodput-over-peak", median(ratios.collect()), GOODPUT_MIN),
        Quantity::at_most("overload-memory-over-before", growth, GROWTH_MAX),
    ];
    quantities.extend(load.refusals("overload"));
    Ok(quantities)
}

/// Starts more reads than the gateway may queue; it must refuse the excess with a retry delay and serve a later read.
pub async fn excess_load(text: &str) -> Result<Vec<Quantity>> {
    const DOCUMENTS: usize = 8;
    /// Pause after each call, in which the call enters the queue.
    const BETWEEN: Duration = Duration::from_millis(50);
    /// Maximum time until reads are admitted again.
    const AFTER_LIMIT: Duration = Duration::from_secs(20);
    let cluster = ClusterSpec::default().start().await?;
    let writer = cluster.api()?;
    let work = Workload::prepare(&writer, text, DOCUMENTS + 1, 6_000).await?;
    // The decoder measures its rate with its first windows. Before that, it reports no backlog.
    writer.get(&work.documents()[DOCUMENTS].0).await?;
    let folder = TempDir::with_prefix("c3-excess-")?;
    let gateway = Launch::new(Program::Gateway).arg("--data").arg(cluster.data());
    let gateway = gateway.args(["--compressor", cluster.address(0), "--decoder", cluster.address(1)]);
    let gateway = gateway.args(["--backlog-max", "1s", "--node-calls-max", "1"]).serve(folder.path()).await?;
    let api = GatewayApi::to(&gateway)?;
    let load = ReadLoad::new(vec![api.clone()], work.clone());
    let mut clients = JoinSet::new();
    for _ in 0..DOCUMENTS {
        clients.spawn(load.clone().call(0));
        sleep(BETWEEN).await;
    }
    clients.join_all().await;
    let read = load.answers();
    let (id, text) = &work.documents()[DOCUMENTS - 1];
    // The node's last report of its load may be half a second old.
    let after = until("a later read", AFTER_LIMIT, async || api.get(id).await.ok()).await?.text == text.as_bytes();
    let mut quantities = vec![Quantity::observed("excess-load-read", read, read > 0, "at least 1")];
    quantities.extend(load.refusals("excess-load"));
    quantities.push(Quantity::holds("excess-load-over", after, "a later read succeeds"));
    Ok(quantities)
}

/// Returns the sum of all programs' peak resident memory, in bytes.
fn peak_memory(cluster: &Cluster) -> Result<u64> {
    let programs = cluster.compressors.iter().chain(&cluster.decoders).chain([&cluster.gateway]);
    programs.map(|program| program.peak_bytes()).sum()
}

/// Reads ten long documents concurrently while another connection steadily reads short ones; the p99 latency of the
/// short reads may at most triple. The long documents have more windows than a node accepts at a time.
pub async fn fair(text: &str, duration: Duration) -> Result<Vec<Quantity>> {
    const TIMES: usize = 10;
    const P99_MAX: f64 = 3.0;
    let cluster = ClusterSpec::default().start().await?;
    let (steady, greedy) = (cluster.api()?, cluster.api()?);
    let short = Workload::prepare(&steady, text, 10, 1_000).await?;
    // Each reader has its own long document, because all readers of one window share its decoding.
    let long = Workload::prepare(&greedy, text, TIMES, 8_000).await?;
    let read = async |api: &GatewayApi, documents: &[(String, String)], until: Instant| {
        let mut took = Vec::new();
        for (id, _) in documents.iter().cycle() {
            if Instant::now() > until {
                break;
            }
            let started = Instant::now();
            api.get(id).await?;
            took.push(started.elapsed());
        }
        Ok::<_, Status>(took)
    };
    let before = read(&steady, short.documents(), Instant::now() + duration).await?;
    let until = Instant::now() + duration;
    let burst = join_all(long.documents().iter().map(|document| read(&greedy, slice::from_ref(document), until)));
    let (beside, burst) = tokio::join!(read(&steady, short.documents(), until), burst);
    let (beside, burst) = (beside?, burst.into_iter().collect::<Result<Vec<_>, _>>()?);
    let read = burst.iter().map(Vec::len).sum::<usize>();
    let seconds = [&before, &beside].map(|took| [p50(took), p99(took)]);
    Ok(vec![
        Quantity::at_least("fair-long-documents-of-the-burst", read as f64, TIMES as f64),
        Quantity::reported("fair-steady-p50-p99-seconds-before-and-beside", seconds),
        Quantity::at_most("fair-steady-p99-over-before", p99(&beside) / p99(&before), P99_MAX),
    ])
}
