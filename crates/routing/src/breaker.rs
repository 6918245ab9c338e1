//! Circuit breaker of one node: opens after consecutive failures or on ejection, then lets single calls probe the node
//! (half-open) before it closes.
//!
//! The breaker excludes nodes that pass their health checks but fail calls, give wrong answers, or are latency
//! outliers. A full node does not count as failed. Unreachable nodes are excluded by the health checks instead.

use std::time::Duration;

use tokio::time::Instant;

/// Consecutive failures that open the breaker.
const FAILURES_MAX: u32 = 3;
/// Initial open time after failures. It doubles each time the breaker opens again.
const OPEN_TIME: Duration = Duration::from_secs(1);
/// Initial open time after an ejection. It also doubles each time the breaker opens again.
const EJECTION_TIME: Duration = Duration::from_secs(10);
/// Maximum open time, without the jitter of up to 20 %.
const OPEN_TIME_MAX: Duration = Duration::from_secs(30);
/// Maximum concurrent probes of a half-open breaker.
const PROBES_MAX: u32 = 1;
/// After more consecutive successes than this, the next open time is the initial one again.
const SUCCESSES_TO_RESET: u32 = 50;

/// Circuit breaker of one node. The default is closed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Breaker {
    /// Failures since the last success or opening.
    failures: u32,
    /// Successes since the last failure.
    successes: u32,
    /// `None` while the breaker is closed.
    open: Option<Open>,
    last_open_time: Option<Duration>,
}

/// State of a breaker that is open before `until` and half-open from then on.
#[derive(Clone, Copy, Debug)]
struct Open {
    until: Instant,
    probes: u32,
}

/// State of a breaker, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BreakerState {
    Closed,
    Open,
    HalfOpen,
}

/// Outcome of a call, as reported to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallOutcome {
    /// The node answered.
    Answered,
    /// The node failed the call.
    Failed,
    /// The node is a latency outlier.
    Outlier,
    /// The call proves nothing: the node was full or unreachable, the request was wrong, or the caller cancelled.
    Ignored,
}

impl Breaker {
    /// Returns whether a call may go to the node now.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        self.open.is_none_or(|open| now >= open.until && open.probes < PROBES_MAX)
    }

    /// Returns whether the breaker is open or half-open.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(crate) fn state(&self, now: Instant) -> BreakerState {
        match self.open {
            None => BreakerState::Closed,
            Some(open) if now < open.until => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// Records the start of a call. Returns whether the call probes a half-open breaker; pass this to [`Self::finish`].
    /// If too many nodes are ejected, calls also go to nodes with open breakers (panic threshold). Such a call is no
    /// probe.
    pub(crate) fn start(&mut self, now: Instant) -> bool {
        let half_open = self.open.as_mut().filter(|open| now >= open.until);
        half_open.map(|open| open.probes += 1).is_some()
    }

    /// Records the end of a call. Returns whether the call opened the breaker.
    pub(crate) fn finish(&mut self, probe: bool, outcome: CallOutcome, now: Instant) -> bool {
        if let Some(open) = self.open.as_mut().filter(|_| probe) {
            open.probes = open.probes.saturating_sub(1);
        }
        match outcome {
            CallOutcome::Ignored => false,
            CallOutcome::Answered => {
                self.failures = 0;
                self.successes += 1;
                if self.successes > SUCCESSES_TO_RESET {
                    self.last_open_time = None;
                }
                // A call that began before the breaker opened does not show that the node has recovered.
                if probe {
                    self.open = None;
                }
                false
            }
            CallOutcome::Failed | CallOutcome::Outlier => {
                (self.failures, self.successes) = (self.failures + 1, 0);
                let ejected = outcome == CallOutcome::Outlier;
                let opens = match self.open {
                    Some(_) => probe,
                    None => ejected || self.failures >= FAILURES_MAX,
                };
                if opens {
                    self.open_for(if ejected { EJECTION_TIME } else { OPEN_TIME }, now);
                }
                opens
            }
        }
    }

    /// Opens a closed breaker immediately, because the node gave a wrong answer.
    pub(crate) fn eject(&mut self, now: Instant) {
        if self.open.is_none() {
            self.open_for(EJECTION_TIME, now);
        }
    }

    /// Closes the breaker and clears its history, because the node may have restarted.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    fn open_for(&mut self, initial: Duration, now: Instant) {
        let time = self.last_open_time.map_or(initial, |last| (last * 2).max(initial)).min(OPEN_TIME_MAX);
        // Jitter, so that several gateways do not probe at the same instant.
        let jitter = time.mul_f64(0.2 * fastrand::f64());
        self.failures = 0;
        self.last_open_time = Some(time);
        self.open = Some(Open { until: now + time + jitter, probes: 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn fail(breaker: &mut Breaker, times: u32, now: Instant) {
        for _ in 0..times {
            let probe = breaker.start(now);
            breaker.finish(probe, CallOutcome::Failed, now);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_consecutive_failures_and_closes_after_a_probe() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        fail(&mut breaker, FAILURES_MAX - 1, now);
        assert!(breaker.admits(now));
        fail(&mut breaker, 1, now);
        assert!(!breaker.admits(now));
        let later = now + 2 * OPEN_TIME;
        assert!(breaker.admits(later));
        assert!(breaker.start(later));
        assert!(!breaker.admits(later), "one probe at a time");
        breaker.finish(true, CallOutcome::Answered, later);
        assert!(breaker.admits(later) && !breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_between_failures_keeps_it_closed_and_a_full_node_does_not_fail() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..10 {
            fail(&mut breaker, FAILURES_MAX - 1, now);
            breaker.finish(false, CallOutcome::Answered, now);
        }
        for _ in 0..10 {
            breaker.finish(false, CallOutcome::Ignored, now);
        }
        assert!(breaker.admits(now));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_probe_opens_it_for_longer() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        fail(&mut breaker, FAILURES_MAX, now);
        let mut last = Duration::ZERO;
        for _ in 0..8 {
            now += LONG;
            assert!(breaker.admits(now));
            fail(&mut breaker, 1, now);
            let until = breaker.open.unwrap().until - now;
            assert!(until > last || until >= OPEN_TIME_MAX, "{until:?}");
            last = breaker.last_open_time.unwrap();
        }
        assert_eq!(last, OPEN_TIME_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn an_ejected_node_stays_out_for_the_ejection_time() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        breaker.eject(now);
        assert!(!breaker.admits(now + EJECTION_TIME / 2) && breaker.admits(now + 2 * EJECTION_TIME));
        breaker.reset();
        assert!(breaker.admits(now));
    }
}
