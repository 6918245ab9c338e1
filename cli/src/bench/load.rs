//! When calls are made.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use serde::Serialize;

use super::side::{Side, SideReport};
use crate::failure::Failure;

/// When calls are made.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Load {
    /// Closed loop: callers at once.
    pub(super) clients: usize,
    /// Open loop: calls a second, in place of callers.
    pub(super) rate: Option<f64>,
    /// How long calls are begun.
    pub(super) seconds: u64,
}

impl Load {
    /// Makes calls until then, waits for their answers, and says what was seen.
    pub(super) async fn run(&self, side: &Side, until: Instant) -> Result<SideReport, Failure> {
        let began = Instant::now();
        match self.rate {
            Some(rate) => open(side, rate, until).await,
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

async fn open(side: &Side, rate: f64, until: Instant) {
    let mut calls = FuturesUnordered::new();
    let mut due = Instant::now();
    while due < until {
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => {
                calls.push(side.call(due));
                due += pause(rate);
            }
            Some(()) = calls.next() => {}
        }
    }
    while calls.next().await.is_some() {}
}

/// Time to the next call, exponentially distributed.
fn pause(rate: f64) -> Duration {
    Duration::from_secs_f64(-(1.0 - fastrand::f64()).ln() / rate)
}
