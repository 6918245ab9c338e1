//! Closed-loop and open-loop load of reads. Counts correct texts, refusals and failures.

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
use crate::harness::quantity::Quantity;

/// Maximum time to wait for answers.
const LIMIT: Duration = Duration::from_secs(60);

/// A group of clients. Clones share the counters.
#[derive(Clone, Debug)]
pub struct ReadLoad(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connections: Vec<GatewayApi>,
    work: Workload,
    /// Indices of documents that no call is reading. A call reads only such a document, since two readers of the same
    /// document would share its decoding.
    free: Mutex<VecDeque<usize>>,
    /// Number of calls that returned the correct text.
    answers: watch::Sender<usize>,
    refused: AtomicUsize,
    /// Number of refusals without a retry delay, which `refused` does not include.
    without_delay: AtomicUsize,
    failed: AtomicUsize,
}

/// Guard of a document that is being read. Dropping the guard makes the document free again.
struct ReadGuard(Arc<Inner>, usize);

impl ReadLoad {
    /// Creates a load that reads the documents of `work` over these connections. Makes no calls yet.
    pub fn new(connections: Vec<GatewayApi>, work: Workload) -> Self {
        let free = Mutex::new((0..work.documents().len()).collect());
        Self(Arc::new(Inner {
            connections,
            work,
            free,
            answers: watch::Sender::default(),
            refused: AtomicUsize::default(),
            without_delay: AtomicUsize::default(),
            failed: AtomicUsize::default(),
        }))
    }

    /// Reads a free document over the connection with this index, and counts the outcome.
    pub async fn call(self, connection: usize) {
        let Some(number) = self.0.free().pop_front() else {
            // More calls are in flight than there are documents. This counts as a failure.
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
                let has_delay = status.metadata().contains_key("retry-after-ms");
                if has_delay { &inner.refused } else { &inner.without_delay }
            }
            _ => &inner.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns correct answers per second for closed-loop clients. Each client waits for the answer to its call before
    /// its next call.
    pub async fn closed_loop(&self, clients: usize, duration: Duration) -> Result<f64> {
        let mut tasks = JoinSet::new();
        for number in 0..clients {
            let (load, connection) = (self.clone(), number % self.0.connections.len());
            tasks.spawn(async move {
                loop {
                    load.clone().call(connection).await;
                }
            });
        }
        self.rate(clients, duration, tasks).await
    }

    /// Returns correct answers per second under open-loop load. Calls start at a fixed rate, without waiting for
    /// earlier answers. The measurement starts after `slots` answers.
    pub async fn open_loop(&self, calls_per_second: f64, slots: usize, duration: Duration) -> Result<f64> {
        let (load, mut tasks) = (self.clone(), JoinSet::new());
        tasks.spawn(async move {
            let mut ticks = interval(Duration::from_secs_f64(1.0 / calls_per_second));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut clients = JoinSet::new();
            for turn in 0.. {
                ticks.tick().await;
                clients.spawn(load.clone().call(turn % load.0.connections.len()));
                while clients.try_join_next().is_some() {}
            }
        });
        self.rate(slots, duration, tasks).await
    }

    /// Waits for `settled` answers, measures answers per second for at least `duration`, and drops all calls. The
    /// measurement starts and ends at an answer, because answers arrive in bursts.
    async fn rate(&self, settled: usize, duration: Duration, mut tasks: JoinSet<()>) -> Result<f64> {
        let mut answers = self.0.answers.subscribe();
        let settled = *answers.borrow() + settled;
        let before = *timeout(LIMIT, answers.wait_for(|answers| *answers >= settled)).await.context("no answers")??;
        let started = Instant::now();
        sleep(duration).await;
        answers.mark_unchanged();
        timeout(LIMIT, answers.changed()).await.context("answers stopped")??;
        let (after, took) = (self.answers(), started.elapsed());
        tasks.shutdown().await;
        Ok((after - before) as f64 / took.as_secs_f64())
    }

    /// Returns the number of calls so far that returned the correct text.
    pub fn answers(&self) -> usize {
        *self.0.answers.borrow()
    }

    /// Returns the number of refusals with a retry delay so far.
    pub fn refused(&self) -> usize {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Returns quantities about refused and failed calls. Their names begin with `prefix`.
    pub fn refusals(&self, prefix: &str) -> [Quantity; 3] {
        let refused = self.refused();
        let [without_delay, failed] =
            [&self.0.without_delay, &self.0.failed].map(|count| count.load(Ordering::Relaxed));
        [
            Quantity::observed(format!("{prefix}-refused"), refused, refused > 0, "at least 1"),
            Quantity::equal(format!("{prefix}-refused-without-retry-after"), without_delay, 0),
            Quantity::equal(format!("{prefix}-failed-otherwise"), failed, 0),
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
