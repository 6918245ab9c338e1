//! Load of reads, closed-loop and open-loop, with a count of each outcome.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tonic::Code;

use super::load::Workload;
use crate::harness::gateway_api::GatewayApi;
use crate::harness::row::Row;

/// Maximum time without an answer.
const LIMIT: Duration = Duration::from_secs(60);

/// A group of clients. Clones share the counters.
#[derive(Clone, Debug)]
pub struct ReadLoad(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connections: Vec<GatewayApi>,
    work: Workload,
    /// Documents that are not being read. Two readers of the same document would share its decoding.
    free: Mutex<VecDeque<usize>>,
    /// Number of correct texts.
    answers: watch::Sender<usize>,
    refused: AtomicUsize,
    /// Number of refusals without a retry delay.
    bare: AtomicUsize,
    failed: AtomicUsize,
}

/// Guard of a document that is being read. Returns it on drop.
struct ReadGuard(Arc<Inner>, usize);

impl ReadLoad {
    /// Creates clients that read these documents over these connections.
    pub fn new(connections: Vec<GatewayApi>, work: Workload) -> Self {
        let free = Mutex::new((0..work.documents().len()).collect());
        Self(Arc::new(Inner {
            connections,
            work,
            free,
            answers: watch::Sender::default(),
            refused: AtomicUsize::default(),
            bare: AtomicUsize::default(),
            failed: AtomicUsize::default(),
        }))
    }

    /// Reads a document that no other client is reading.
    pub async fn call(self, connection: usize) {
        let Some(number) = self.0.free().pop_front() else {
            // More calls are in flight than there are documents. The count of failures reveals this.
            self.0.failed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let reading = ReadGuard(self.0, number);
        let inner = &reading.0;
        let (id, text) = &inner.work.documents()[number];
        let counter = match inner.connections[connection].get(id).await {
            Ok(got) if got.text == text.as_bytes() => {
                return inner.answers.send_modify(|answers| *answers += 1);
            }
            Err(status) if status.code() == Code::ResourceExhausted => {
                let says_when = status.metadata().contains_key("retry-after-ms");
                if says_when { &inner.refused } else { &inner.bare }
            }
            _ => &inner.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns answers per second for closed-loop clients: each waits for an answer before its next call.
    pub async fn closed_loop(&self, callers: usize, spell: Duration) -> Result<f64> {
        let mut asking = JoinSet::new();
        for number in 0..callers {
            let (demand, connection) = (self.clone(), number % self.0.connections.len());
            asking.spawn(async move {
                loop {
                    demand.clone().call(connection).await;
                }
            });
        }
        self.pace(callers, spell, asking).await
    }

    /// Returns answers per second under open-loop load of `calls_a_second`. The load counts as settled after `places`
    /// answers.
    pub async fn open_loop(&self, calls_a_second: f64, places: usize, spell: Duration) -> Result<f64> {
        let (demand, mut asking) = (self.clone(), JoinSet::new());
        asking.spawn(async move {
            let mut ticks = interval(Duration::from_secs_f64(1.0 / calls_a_second));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut callers = JoinSet::new();
            for turn in 0.. {
                ticks.tick().await;
                callers.spawn(demand.clone().call(turn % demand.0.connections.len()));
                while callers.try_join_next().is_some() {}
            }
        });
        self.pace(places, spell, asking).await
    }

    /// Measures answers per second, once `settled` answers have arrived. Starts and ends at an answer, because answers
    /// arrive in bursts. Then drops all calls.
    async fn pace(&self, settled: usize, spell: Duration, mut asking: JoinSet<()>) -> Result<f64> {
        let mut answers = self.0.answers.subscribe();
        let settled = *answers.borrow() + settled;
        let before = *timeout(LIMIT, answers.wait_for(|answers| *answers >= settled))
            .await
            .context("no answers")??;
        let started = Instant::now();
        sleep(spell).await;
        answers.mark_unchanged();
        timeout(LIMIT, answers.changed()).await.context("answers stopped")??;
        let (after, took) = (self.answers(), started.elapsed());
        asking.shutdown().await;
        Ok((after - before) as f64 / took.as_secs_f64())
    }

    /// Returns the number of correct texts so far.
    pub fn answers(&self) -> usize {
        *self.0.answers.borrow()
    }

    /// Returns the number of refusals with a retry delay so far.
    pub fn refused(&self) -> usize {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Returns rows for refused and failed calls.
    pub fn refusals(&self, row: &str) -> [Row; 3] {
        let refused = self.refused();
        let [bare, failed] = [&self.0.bare, &self.0.failed].map(|count| count.load(Ordering::Relaxed));
        [
            Row::observed(format!("{row}-refused"), refused, refused > 0, "at least 1"),
            Row::equal(format!("{row}-refused-without-retry-after"), bare, 0),
            Row::equal(format!("{row}-failed-otherwise"), failed, 0),
        ]
    }
}

impl Inner {
    fn free(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ReadGuard {
    fn drop(&mut self) {
        self.0.free().push_back(self.1);
    }
}
