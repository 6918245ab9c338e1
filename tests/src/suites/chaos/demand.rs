//! Reads that are asked for at more than the pace at which they can be served, and what became of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tonic::Code;

use super::load::Work;
use crate::calls::Calls;
use crate::row::Row;

/// Longest time without any answer.
const LIMIT: Duration = Duration::from_secs(60);

/// Callers of one system; clones count together.
#[derive(Clone, Debug)]
pub struct Demand(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connections: Vec<Calls>,
    work: Work,
    /// Documents that nobody reads now: two who read one would have it from one piece of work.
    free: Mutex<VecDeque<usize>>,
    /// Right texts.
    answers: watch::Sender<usize>,
    refused: AtomicUsize,
    /// Refused without saying when to try again.
    bare: AtomicUsize,
    failed: AtomicUsize,
}

/// A document that somebody reads, until he leaves.
struct Reading(Arc<Inner>, usize);

impl Demand {
    /// Callers on these connections, who read these documents.
    pub fn new(connections: Vec<Calls>, work: Work) -> Self {
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

    /// One read of a document that nobody else reads.
    pub async fn call(self, connection: usize) {
        let Some(number) = self.0.free().pop_front() else {
            // More calls are in flight than there are documents: seen by who counts the failed ones.
            self.0.failed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let reading = Reading(self.0, number);
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

    /// Answers a second to so many callers who each wait for one before the next call.
    pub async fn patient(&self, callers: usize, spell: Duration) -> Result<f64> {
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

    /// Answers a second where so many calls a second are made, whatever becomes of those before. `places`: answers after
    /// which the load has settled.
    pub async fn impatient(&self, calls_a_second: f64, places: usize, spell: Duration) -> Result<f64> {
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

    /// Answers a second for a spell, from one of them to another one: they come several at once. Then the callers leave.
    async fn pace(&self, settled: usize, spell: Duration, mut asking: JoinSet<()>) -> Result<f64> {
        let mut answers = self.0.answers.subscribe();
        let settled = *answers.borrow() + settled;
        let before = *timeout(LIMIT, answers.wait_for(|answers| *answers >= settled))
            .await
            .context("no answers")??;
        let begun = Instant::now();
        sleep(spell).await;
        answers.mark_unchanged();
        timeout(LIMIT, answers.changed()).await.context("no answers any more")??;
        let (after, took) = (self.answers(), begun.elapsed());
        asking.shutdown().await;
        Ok((after - before) as f64 / took.as_secs_f64())
    }

    /// Right texts so far.
    pub fn answers(&self) -> usize {
        *self.0.answers.borrow()
    }

    /// Calls so far that were refused and told when to try again.
    pub fn refused(&self) -> usize {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// What became of the other calls.
    pub fn refusals(&self, row: &str) -> [Row; 3] {
        let refused = self.refused();
        let [bare, failed] = [&self.0.bare, &self.0.failed].map(|count| count.load(Ordering::Relaxed));
        [
            Row::seen(format!("{row}-refused"), refused, refused > 0, "some"),
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

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.free().push_back(self.1);
    }
}
