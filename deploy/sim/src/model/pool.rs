//! Nodes of one stage: their queue, their starts, and the metrics that the autoscaler sees.

use std::time::Duration;

use super::{Day, PROVISIONING, START, STEP, STEPS, Stage};
use crate::rule::SYNC_PERIOD;

/// Interval at which Prometheus scrapes the gateways.
const SCRAPE: Duration = Duration::from_secs(15);

/// Time constant of the exponential average of a node's busy share.
pub const BUSY_AVERAGE: Duration = Duration::from_secs(15);

/// Time that a removed node needs to finish its calls.
const DRAIN: Duration = Duration::from_secs(30);

/// Expected wait above which gateways refuse requests. Refused work comes back, but only admitted work is in the
/// backlog.
const ADMITTED_WAIT: f64 = 30.0;

/// Metrics of a stage at the latest scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signals {
    /// `c3_stage_backlog_seconds`, the sum over its places.
    pub backlog_seconds: f64,
    /// `c3_stage_busy_nodes`.
    pub busy_nodes: f64,
}

/// Course of a simulated day.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Number of replicas that the Deployment requests, for each step.
    pub replicas: Vec<usize>,
    /// Expected wait for a node at each step, in seconds: queued work divided by the ready nodes.
    pub waits: Vec<f64>,
    /// Time of all pods, including the ones that start or drain, in seconds.
    pub replica_seconds: f64,
}

struct Pool {
    /// Work that waits or runs, including refused work whose clients retry, in node-seconds.
    queue: f64,
    ready: usize,
    /// Steps at which starting pods become ready.
    starting: Vec<usize>,
    /// Steps at which draining pods end.
    draining: Vec<usize>,
    /// Sum of the averaged busy shares of the ready nodes.
    busy: f64,
}

/// Simulates a stage for a day. It starts with `start` ready nodes and an empty queue. `control` sets the replicas once
/// per sync period, given the time, the current replicas and the latest metrics, or `None` if the query fails.
pub fn simulate(
    day: &Day,
    stage: Stage,
    start: usize,
    mut control: impl FnMut(Duration, usize, Option<Signals>) -> usize,
) -> Trace {
    let mut pool = Pool { queue: 0.0, ready: start, starting: Vec::new(), draining: Vec::new(), busy: 0.0 };
    let mut trace = Trace::default();
    let mut scraped = Signals::default();
    let [scrape, sync] = [SCRAPE, SYNC_PERIOD].map(steps);
    for (step, work) in day.arrivals(stage).iter().enumerate() {
        pool.step(step, *work);
        if step == day.zone_outage.start {
            pool.lose_third(step);
        }
        // Scrapes and syncs are not in phase.
        if step % scrape == 0 {
            scraped = pool.signals();
        }
        if step % sync == sync / 2 {
            let current = pool.replicas();
            let signals = Some(scraped).filter(|_| !day.metrics_outage.contains(&step));
            let delay = if day.zone_outage.contains(&step) { START + PROVISIONING } else { START };
            pool.resize(step, control(STEP * step as u32, current, signals), steps(delay));
        }
        trace.replicas.push(pool.replicas());
        trace.waits.push(pool.queue / pool.ready.max(1) as f64);
        trace.replica_seconds += (pool.replicas() + pool.draining.len()) as f64 * STEP.as_secs_f64();
    }
    debug_assert_eq!(trace.replicas.len(), STEPS);
    trace
}

impl Pool {
    fn replicas(&self) -> usize {
        self.ready + self.starting.len()
    }

    fn signals(&self) -> Signals {
        let backlog_seconds = self.queue.min(ADMITTED_WAIT * self.ready as f64);
        Signals { backlog_seconds, busy_nodes: self.busy }
    }

    fn step(&mut self, step: usize, work: f64) {
        let starting = self.starting.len();
        self.starting.retain(|ready| *ready > step);
        self.ready += starting - self.starting.len();
        self.draining.retain(|end| *end > step);
        self.queue += work;
        let served = self.queue.min(self.ready as f64 * STEP.as_secs_f64());
        self.queue -= served;
        let keep = (-STEP.as_secs_f64() / BUSY_AVERAGE.as_secs_f64()).exp();
        self.busy = keep * self.busy + (1.0 - keep) * served / STEP.as_secs_f64();
    }

    /// Removes ready nodes. Those that remain keep their busy shares.
    fn remove_ready(&mut self, count: usize) {
        self.busy *= (self.ready - count) as f64 / self.ready.max(1) as f64;
        self.ready -= count;
    }

    /// Ends a third of the nodes. Their work is retried at the others, and their replacements start late.
    fn lose_third(&mut self, step: usize) {
        let lost = self.ready / 3;
        self.remove_ready(lost);
        let restarted = self.starting.len() / 3;
        self.starting.truncate(self.starting.len() - restarted);
        self.starting.extend((0..lost + restarted).map(|_| step + steps(START + PROVISIONING)));
    }

    /// Creates or removes pods, as the Deployment does: pods that are not ready are removed first.
    fn resize(&mut self, step: usize, replicas: usize, delay: usize) {
        let current = self.replicas();
        self.starting.extend((current..replicas).map(|_| step + delay));
        let removed = current.saturating_sub(replicas);
        let not_ready = removed.min(self.starting.len());
        self.starting.truncate(self.starting.len() - not_ready);
        self.remove_ready(removed - not_ready);
        self.draining.extend((not_ready..removed).map(|_| step + steps(DRAIN)));
    }
}

fn steps(duration: Duration) -> usize {
    (duration.as_millis() / STEP.as_millis()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(ready: usize) -> Pool {
        Pool { queue: 0.0, ready, starting: Vec::new(), draining: Vec::new(), busy: 0.0 }
    }

    #[test]
    fn new_pods_count_at_once_but_serve_only_after_their_start() {
        let mut pool = pool(2);
        pool.resize(0, 4, 10);
        for step in 0..10 {
            pool.step(step, 2.0);
            assert_eq!((pool.replicas(), pool.ready), (4, 2));
        }
        assert_eq!(pool.queue, 10.0);
        pool.step(10, 2.0);
        assert_eq!((pool.replicas(), pool.ready, pool.queue), (4, 4, 10.0));
    }

    #[test]
    fn starting_pods_are_removed_before_ready_nodes() {
        let mut pool = pool(3);
        pool.resize(0, 5, 10);
        pool.resize(1, 2, 10);
        assert_eq!((pool.ready, pool.starting.len(), pool.draining.len()), (2, 0, 1));
        pool.step(1 + steps(DRAIN), 0.0);
        assert_eq!(pool.draining.len(), 0);
    }

    #[test]
    fn a_zone_outage_replaces_a_third_of_the_nodes() {
        let mut pool = pool(6);
        pool.lose_third(0);
        assert_eq!((pool.ready, pool.replicas()), (4, 6));
        pool.step(steps(START + PROVISIONING), 0.0);
        assert_eq!(pool.ready, 6);
    }

    #[test]
    fn metrics_approach_the_load_and_the_backlog_stops_at_the_admitted_wait() {
        let mut pool = pool(4);
        for step in 0..240 {
            pool.step(step, 1.0);
        }
        assert!((pool.signals().busy_nodes - 2.0).abs() < 0.01);
        assert_eq!(pool.signals().backlog_seconds, 0.0);
        pool.step(240, 1000.0);
        assert_eq!(pool.signals().backlog_seconds, 4.0 * ADMITTED_WAIT);
    }
}
