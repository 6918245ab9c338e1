//! Callers that leave, come all at once, or ask for more than there is.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tonic::{Code, Status};

use super::load::{Work, p99};
use crate::calls::{Calls, first_text};
use crate::cluster::{Cluster, Plan};
use crate::row::Row;
use crate::wait::until;

/// Longest time that a wait for what is due at once may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long capacity is measured.
const MEASURED: Duration = Duration::from_secs(10);
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

/// Calls at ten times the rate that can be served. No document is read twice at once: that would be done once.
pub async fn overload(text: &str, spell: Duration) -> Result<Vec<Row>> {
    const TIMES: f64 = 10.0;
    const GOODPUT_MIN: f64 = 0.9;
    const GROWTH_MAX: f64 = 1.2;
    /// For a few seconds of work: who would wait longer is refused at once.
    const PLACES: usize = 32;
    let cluster = Plan::with_gateway_args(&["--calls-max", &PLACES.to_string()]).start().await?;
    // Several connections: one may not ask for more than there are places.
    let all = (0..CONNECTIONS).map(|_| cluster.calls()).collect::<Result<Vec<_>>>()?;
    let calls = &all[0];
    let work = Work::prepare(calls, text, 4 * PLACES, 1_500).await?;
    let free = Arc::new(Mutex::new(VecDeque::from_iter(0..work.documents().len())));
    let peak = closed_loop(&all, &work, PLACES).await?;
    let memory = resident(&cluster)?;
    let seen = Arc::new(Seen::default());
    let mut ticks = interval(Duration::from_secs_f64(1.0 / (TIMES * peak)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (begun, mut callers, mut most) = (Instant::now(), JoinSet::new(), memory);
    let mut looked = begun;
    // Counted from when all places are taken and as many calls have ended: what is in flight at the end is not counted.
    let settling = Duration::from_secs_f64(PLACES as f64 / peak);
    let mut from = None;
    while from.is_none_or(|(from, _): (Instant, usize)| from.elapsed() < spell) {
        ticks.tick().await;
        if from.is_none() && begun.elapsed() >= settling {
            from = Some((Instant::now(), seen.well.load(Ordering::Relaxed)));
        }
        let number = lock(&free).pop_front().context("more calls are in flight than there are documents")?;
        let (calls, seen, free, work) =
            (all[number % all.len()].clone(), Arc::clone(&seen), Arc::clone(&free), work.clone());
        callers.spawn(async move {
            let (id, text) = &work.documents()[number];
            let got = calls.get(id).await;
            seen.ended(got.map(|got| got.text == text.as_bytes()));
            lock(&free).push_back(number);
        });
        while callers.try_join_next().is_some() {}
        if looked.elapsed() > Duration::from_secs(1) {
            (most, looked) = (most.max(resident(&cluster)?), Instant::now());
        }
    }
    let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
    let (from, before) = from.context("the load never settled")?;
    let goodput = (count(&seen.well) - before) as f64 / from.elapsed().as_secs_f64();
    callers.shutdown().await;
    Ok(vec![
        Row::seen("overload-peak-calls-a-second", peak, true, "told only"),
        Row::at_least("overload-goodput-over-peak", goodput / peak, GOODPUT_MIN),
        Row::at_most("overload-memory-over-before", most as f64 / memory as f64, GROWTH_MAX),
        Row::seen("overload-refused", count(&seen.refused), count(&seen.refused) > 0, "some"),
        Row::equal("overload-refused-without-retry-after", count(&seen.bare), 0),
        Row::equal("overload-failed-otherwise", count(&seen.failed), 0),
    ])
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
    let (seen, mut callers) = (Arc::new(Seen::default()), JoinSet::new());
    for number in 0..DOCUMENTS {
        let (calls, seen, work) = (calls.clone(), Arc::clone(&seen), work.clone());
        callers.spawn(async move {
            let (id, text) = &work.documents()[number];
            seen.ended(calls.get(id).await.map(|got| got.text == text.as_bytes()));
        });
        sleep(BETWEEN).await;
    }
    callers.join_all().await;
    let (id, text) = &work.documents()[DOCUMENTS - 1];
    let after = calls.get(id).await?.text == text.as_bytes();
    let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
    Ok(vec![
        Row::seen("waiting-read", count(&seen.well), count(&seen.well) > 0, "some"),
        Row::seen("waiting-refused", count(&seen.refused), count(&seen.refused) > 0, "some"),
        Row::equal("waiting-refused-without-retry-after", count(&seen.bare), 0),
        Row::equal("waiting-failed-otherwise", count(&seen.failed), 0),
        Row::holds("waiting-over", after, "a text that is asked for later comes"),
    ])
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How calls ended.
#[derive(Default)]
struct Seen {
    well: AtomicUsize,
    refused: AtomicUsize,
    /// Refused without saying when to try again.
    bare: AtomicUsize,
    failed: AtomicUsize,
}

impl Seen {
    /// Whether the text was the right one, or what came instead.
    fn ended(&self, result: Result<bool, Status>) {
        let counter = match result {
            Ok(true) => &self.well,
            Ok(false) => &self.failed,
            Err(status) if status.code() != Code::ResourceExhausted => &self.failed,
            Err(status) if status.metadata().contains_key("retry-after-ms") => &self.refused,
            Err(_) => &self.bare,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Calls a second of callers who each wait for an answer before the next call.
async fn closed_loop(connections: &[Calls], work: &Work, callers: usize) -> Result<f64> {
    let begun = Instant::now();
    let caller = |number: usize| {
        let (documents, calls) = (work.documents(), &connections[number % connections.len()]);
        async move {
            let mut well = 0;
            for turn in 0.. {
                if begun.elapsed() > MEASURED {
                    break;
                }
                calls.get(&documents[(number + callers * turn) % documents.len()].0).await?;
                well += 1;
            }
            Ok::<usize, Status>(well)
        }
    };
    let all = join_all((0..callers).map(caller)).await.into_iter().sum::<Result<usize, _>>()?;
    Ok(all as f64 / begun.elapsed().as_secs_f64())
}

/// Resident memory of all programs, in bytes.
fn resident(cluster: &Cluster) -> Result<u64> {
    let programs = cluster.compressors.iter().chain(&cluster.decoders).chain([&cluster.gateway]);
    programs.map(|program| program.resident_bytes()).sum()
}

/// A caller who reads steadily, while another one, on a connection of its own, suddenly asks for ten times as much.
pub async fn fair(text: &str, spell: Duration) -> Result<Vec<Row>> {
    const TIMES: usize = 10;
    const P99_MAX: f64 = 3.0;
    let cluster = Plan::default().start().await?;
    let (steady, greedy) = (cluster.calls()?, cluster.calls()?);
    let work = Work::prepare(&steady, text, 100, 2_000).await?;
    let read = async |calls: &Calls, from: usize, until: Instant| {
        let mut took = Vec::new();
        for turn in from.. {
            if Instant::now() > until {
                break;
            }
            let begun = Instant::now();
            calls.get(&work.documents()[turn * 7 % work.documents().len()].0).await?;
            took.push(begun.elapsed());
        }
        Ok::<_, Status>(took)
    };
    let before = read(&steady, 0, Instant::now() + spell).await?;
    let until = Instant::now() + spell;
    let burst = join_all((1..=TIMES).map(|number| read(&greedy, 1000 * number, until)));
    let (beside, burst) = tokio::join!(read(&steady, 0, until), burst);
    let (beside, burst) = (beside?, burst.into_iter().collect::<Result<Vec<_>, _>>()?);
    let calls = burst.iter().map(Vec::len).sum::<usize>();
    Ok(vec![
        Row::seen("fair-calls-of-the-burst", calls, calls > beside.len(), "more than the steady caller's"),
        Row::at_most("fair-steady-p99-over-before", p99(&beside) / p99(&before), P99_MAX),
    ])
}
