//! Callers that leave, come all at once, or ask for more than there is.

use std::iter::zip;
use std::slice;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::demand::Demand;
use super::load::{Work, p50, p99};
use crate::calls::{Calls, first_text};
use crate::cluster::{Cluster, Plan};
use crate::row::{Row, median};
use crate::wait::until;

/// Longest time that a wait for what is due at once may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Connections of callers who ask for too much.
const CONNECTIONS: usize = 8;

/// Callers who leave at one instant, in the middle of their texts: how long until every place is free.
pub async fn cancelled(text: &str, callers: usize, documents: usize) -> Result<Vec<Row>> {
    const FREE_MAX: f64 = 1.0;
    let wide = ["--calls-max", "8192", "--look-ahead", "2"].map(str::to_owned);
    let cluster = Plan { gateway_args: wide.to_vec(), node_args: wide[..2].to_vec(), ..Plan::default() };
    let cluster = cluster.start().await?;
    let calls = cluster.calls()?;
    // Texts of their own, or all would read the same windows.
    let documents = Work::prepare(&calls, text, documents, 10_000).await?;
    let ids = documents.documents().iter().map(|(id, _)| id.clone());
    let open = |id: String| {
        let calls = calls.clone();
        async move { calls.open(&id).await }
    };
    let streams: Vec<_> = join_all(ids.cycle().take(callers).map(open)).await;
    let opened = streams.iter().filter(|stream| stream.is_ok()).count();
    let mut streams = streams.into_iter().flatten().collect::<Vec<_>>();
    let first = streams.first_mut().context("no call was taken")?;
    ensure!(!first_text(first).await?.is_empty(), "no text came");
    let left = Instant::now();
    drop(streams);
    let free = until("every place to be free", LIMIT, async || {
        let load = cluster.decoder_says().await.ok()?.load?;
        let nodes = calls.nodes().await.ok()?;
        let in_flight: u32 = nodes.iter().map(|node| node.calls_in_flight).sum();
        (load.queued_tokens + load.running_tokens == 0 && in_flight == 0).then_some(())
    });
    free.await?;
    let seconds = left.elapsed().as_secs_f64();
    Ok(vec![
        Row::equal("cancelled-callers", opened, callers),
        Row::at_most("cancelled-places-free-seconds", seconds, FREE_MAX),
    ])
}

/// Calls at ten times the rate that can be served, by turns with as many callers as there are places, who each wait for
/// an answer: the peak.
pub async fn overload(text: &str, spell: Duration) -> Result<Vec<Row>> {
    const TIMES: f64 = 10.0;
    const GOODPUT_MIN: f64 = 0.9;
    const GROWTH_MAX: f64 = 1.2;
    /// For a few seconds of work: who would wait longer is refused at once.
    const PLACES: usize = 16;
    const ROUNDS: usize = 3;
    let cluster = Plan::with_gateway_args(&["--calls-max", &PLACES.to_string()]).start().await?;
    // Several connections: one may not ask for more than there are places.
    let connections = (0..CONNECTIONS).map(|_| cluster.calls()).collect::<Result<Vec<_>>>()?;
    let work = Work::prepare(&connections[0], text, 2 * PLACES, 1_500).await?;
    let demand = Demand::new(connections, work);
    let mut peaks = vec![demand.patient(PLACES, spell).await?];
    let refused = demand.refused();
    let memory = peak_memory(&cluster)?;
    let mut goodputs = Vec::new();
    for _ in 0..ROUNDS {
        cluster.becomes_idle().await?;
        goodputs.push(demand.impatient(TIMES * peaks[peaks.len() - 1], PLACES, spell).await?);
        cluster.becomes_idle().await?;
        peaks.push(demand.patient(PLACES, spell).await?);
    }
    // The machine's pace changes: each goodput over the peaks before and after it.
    let ratios =
        zip(&goodputs, peaks.windows(2)).map(|(goodput, peaks)| 2.0 * goodput / (peaks[0] + peaks[1]));
    let growth = peak_memory(&cluster)? as f64 / memory as f64;
    let mut rows = vec![
        Row::equal("overload-refused-without-overload", refused, 0),
        Row::seen("overload-peaks-calls-a-second", &peaks, true, "told only"),
        Row::seen("overload-goodputs-calls-a-second", &goodputs, true, "told only"),
        Row::at_least("overload-goodput-over-peak", median(ratios.collect()), GOODPUT_MIN),
        Row::at_most("overload-memory-over-before", growth, GROWTH_MAX),
    ];
    rows.extend(demand.refusals("overload"));
    Ok(rows)
}

/// More texts asked for than are worked off soon, of a gateway that lets little wait: who comes late is told so at once.
pub async fn waiting(text: &str) -> Result<Vec<Row>> {
    const DOCUMENTS: usize = 8;
    /// Between two calls: the one before has begun to wait by then.
    const BETWEEN: Duration = Duration::from_millis(50);
    let args = ["--waiting-tokens-max", "1500", "--node-calls-max", "1"];
    let cluster = Plan::with_gateway_args(&args).start().await?;
    let calls = cluster.calls()?;
    let work = Work::prepare(&calls, text, DOCUMENTS, 6_000).await?;
    let demand = Demand::new(vec![calls.clone()], work.clone());
    let mut callers = JoinSet::new();
    for _ in 0..DOCUMENTS {
        callers.spawn(demand.clone().call(0));
        sleep(BETWEEN).await;
    }
    callers.join_all().await;
    let read = demand.answers();
    let (id, text) = &work.documents()[DOCUMENTS - 1];
    let after = calls.get(id).await?.text == text.as_bytes();
    let mut rows = vec![Row::seen("waiting-read", read, read > 0, "some")];
    rows.extend(demand.refusals("waiting"));
    rows.push(Row::holds("waiting-over", after, "a text that is asked for later comes"));
    Ok(rows)
}

/// Largest resident memory of all programs so far, in bytes.
fn peak_memory(cluster: &Cluster) -> Result<u64> {
    let programs = cluster.compressors.iter().chain(&cluster.decoders).chain([&cluster.gateway]);
    programs.map(|program| program.peak_bytes()).sum()
}

/// A caller who reads short documents steadily, while another one, on a connection of its own, suddenly asks for ten long
/// ones at once: more windows than a node is given at a time.
pub async fn fair(text: &str, spell: Duration) -> Result<Vec<Row>> {
    const TIMES: usize = 10;
    const P99_MAX: f64 = 3.0;
    let cluster = Plan::default().start().await?;
    let (steady, greedy) = (cluster.calls()?, cluster.calls()?);
    let short = Work::prepare(&steady, text, 10, 1_000).await?;
    // A long document of each caller's own, or callers would share what is decoded.
    let long = Work::prepare(&greedy, text, TIMES, 8_000).await?;
    let read = async |calls: &Calls, documents: &[(String, String)], until: Instant| {
        let mut took = Vec::new();
        for (id, _) in documents.iter().cycle() {
            if Instant::now() > until {
                break;
            }
            let begun = Instant::now();
            calls.get(id).await?;
            took.push(begun.elapsed());
        }
        Ok::<_, Status>(took)
    };
    let before = read(&steady, short.documents(), Instant::now() + spell).await?;
    let until = Instant::now() + spell;
    let burst =
        join_all(long.documents().iter().map(|document| read(&greedy, slice::from_ref(document), until)));
    let (beside, burst) = tokio::join!(read(&steady, short.documents(), until), burst);
    let (beside, burst) = (beside?, burst.into_iter().collect::<Result<Vec<_>, _>>()?);
    let read = burst.iter().map(Vec::len).sum::<usize>();
    let seconds = [&before, &beside].map(|took| [p50(took), p99(took)]);
    Ok(vec![
        Row::at_least("fair-long-documents-of-the-burst", read as f64, TIMES as f64),
        Row::seen("fair-steady-p50-p99-seconds-before-and-beside", seconds, true, "told only"),
        Row::at_most("fair-steady-p99-over-before", p99(&beside) / p99(&before), P99_MAX),
    ])
}
