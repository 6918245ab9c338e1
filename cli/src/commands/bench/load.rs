//! When calls are made.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use serde::Serialize;

use super::args::Arrivals;
use super::side::{Side, SideReport};
use crate::failure::Failure;

/// When calls are made.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Load {
    /// Closed loop: callers at once.
    pub(super) clients: usize,
    /// Open loop, in place of callers.
    #[serde(flatten)]
    pub(super) open: Option<Open>,
    /// How long calls are begun.
    pub(super) seconds: u64,
}

/// Calls that wait for no answers.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Open {
    /// Calls a second.
    pub(super) rate: f64,
    pub(super) arrivals: Arrivals,
}

impl Load {
    /// Makes calls until then, waits for their answers, and says what was seen.
    pub(super) async fn run(&self, side: &Side, until: Instant) -> Result<SideReport, Failure> {
        let began = Instant::now();
        match self.open {
            Some(load) => open(side, load, until).await,
            None => closed(side, self.clients, until).await,
        }
        Ok(side.report(began.elapsed().as_secs_f64()))
    }
}

async fn closed(side: &Side, clients: usize, until: Instant) {
    let client = async || {
        while Instant::now() < until {
            side.call(Instant::now()).await;
        }
    };
    join_all((0..clients).map(|_| client())).await;
}

async fn open(side: &Side, load: Open, until: Instant) {
    let mut calls = FuturesUnordered::new();
    let mut due = Instant::now();
    while due < until {
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => {
                calls.push(side.call(due));
                due += load.pause();
            }
            Some(()) = calls.next() => {}
        }
    }
    while calls.next().await.is_some() {}
}

impl Open {
    /// Time to the next call.
    fn pause(self) -> Duration {
        Duration::from_secs_f64(match self.arrivals {
            Arrivals::Even => 1.0 / self.rate,
            Arrivals::Poisson => -(1.0 - fastrand::f64()).ln() / self.rate,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_come_at_the_rate_however_they_come() {
        for (arrivals, within) in [(Arrivals::Even, 1e-6), (Arrivals::Poisson, 0.1)] {
            let load = Open { rate: 50.0, arrivals };
            let pauses = Vec::from_iter((0..10_000).map(|_| load.pause().as_secs_f64()));
            let mean = pauses.iter().sum::<f64>() / pauses.len() as f64;
            assert!((mean * load.rate - 1.0).abs() < within, "{arrivals:?}: {mean}");
            let over = pauses.iter().filter(|&&pause| pause > 2.0 * mean).count();
            // A Poisson process has e^-2 of its pauses over twice the mean, and even calls none.
            assert_eq!(over > 1000, arrivals == Arrivals::Poisson, "{over}");
        }
    }
}
