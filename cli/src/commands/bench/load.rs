//! Schedules of calls: closed loop and open loop.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use serde::Serialize;

use super::worker::{Worker, WorkerReport};
use crate::error::CliError;

/// Schedule of calls.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Load {
    /// Closed loop: number of clients.
    pub(super) clients: usize,
    /// Open loop. If set, `clients` is ignored.
    #[serde(flatten)]
    pub(super) open: Option<OpenLoop>,
    /// Time during which calls are started, in seconds.
    pub(super) seconds: u64,
}

/// Calls at a fixed mean rate.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct OpenLoop {
    /// Calls per second.
    pub(super) rate: f64,
    pub(super) arrivals: Arrivals,
}

/// Distribution of the intervals between calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Arrivals {
    /// Equal intervals, as in wrk2, vegeta and k6
    Constant,
    /// Exponentially distributed intervals (a Poisson process), as many independent callers produce
    Poisson,
}

impl Load {
    /// Starts calls until `until`, then waits for the calls in flight. Failed calls are counted in the report.
    pub(super) async fn run(&self, worker: &Worker, until: Instant) -> Result<WorkerReport, CliError> {
        let started = Instant::now();
        match self.open {
            Some(open) => open.run(worker, until).await,
            None => run_closed(worker, self.clients, until).await,
        }
        Ok(worker.report(started.elapsed().as_secs_f64()))
    }
}

async fn run_closed(worker: &Worker, clients: usize, until: Instant) {
    let client = async || {
        while Instant::now() < until {
            worker.call(Instant::now()).await;
        }
    };
    join_all((0..clients).map(|_| client())).await;
}

impl OpenLoop {
    async fn run(self, worker: &Worker, until: Instant) {
        let mut calls = FuturesUnordered::new();
        let mut due = Instant::now();
        while due < until {
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {
                    calls.push(worker.call(due));
                    due += self.interval();
                }
                Some(()) = calls.next() => {}
            }
        }
        while calls.next().await.is_some() {}
    }

    /// Returns the interval to the next call.
    fn interval(self) -> Duration {
        Duration::from_secs_f64(match self.arrivals {
            Arrivals::Constant => 1.0 / self.rate,
            Arrivals::Poisson => -(1.0 - fastrand::f64()).ln() / self.rate,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_distributions_keep_the_rate() {
        for (arrivals, tolerance) in [(Arrivals::Constant, 1e-6), (Arrivals::Poisson, 0.1)] {
            let open = OpenLoop { rate: 50.0, arrivals };
            let intervals = Vec::from_iter((0..10_000).map(|_| open.interval().as_secs_f64()));
            let mean = intervals.iter().sum::<f64>() / intervals.len() as f64;
            assert!((mean * open.rate - 1.0).abs() < tolerance, "{arrivals:?}: {mean}");
            let long = intervals.iter().filter(|&&interval| interval > 2.0 * mean).count();
            // In a Poisson process, a fraction e^-2 (14 %) of the intervals is longer than twice the mean interval.
            assert_eq!(long > 1000, arrivals == Arrivals::Poisson, "{long}");
        }
    }
}
