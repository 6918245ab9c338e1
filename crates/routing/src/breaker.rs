//! A node's breaker: it opens where a node fails again and again, is far slower than others, or is proven wrong, and lets probes through
//! before it closes.
//!
//! A node that is full is not failing, and one that is lost is known to the registry; the breaker is for one that
//! answers its probes and fails its calls, or takes far longer over them than others of its stage.

use std::time::Duration;

use tokio::time::Instant;

/// Failures without an answer between them that open it.
const FAILURES_MAX: u32 = 3;
/// How long it stays open: at first, and at most. Each time that a probe fails it is twice as long.
const OPEN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// As long as this it is open first for a node that was proven wrong, or is far slower than others.
const EJECTED: Duration = Duration::from_secs(10);
/// Calls that may probe a node at once.
const PROBES_MAX: u32 = 1;
/// Calls without a failure after which earlier ones are forgotten.
const FORGIVEN_AFTER: u32 = 50;

/// Whether a node may be called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Breaker {
    /// Failures since the last success.
    failures: u32,
    /// Successes since the last failure.
    successes: u32,
    open: Option<Open>,
    /// How long it was open the last time.
    last: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    until: Instant,
    probes: u32,
}

/// How a call ended, as far as the breaker cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was answered.
    Answered,
    /// The node's fault.
    Failed,
    /// It was answered or given up, and the node is far slower than others.
    Slow,
    /// None of these: it was full, the call was wrong, or its caller left.
    Neither,
}

impl Breaker {
    /// Whether a call may be made now.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        self.open.is_none_or(|open| now >= open.until && open.probes < PROBES_MAX)
    }

    /// Whether it is open, or lets only probes through.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// A call begins. Whether it is a probe: [`Self::ended`] wants to know. One that comes through while it is open, since
    /// too many nodes are left out, is none.
    pub(crate) fn begun(&mut self, now: Instant) -> bool {
        let probed = self.open.as_mut().filter(|open| now >= open.until);
        probed.map(|open| open.probes += 1).is_some()
    }

    /// A call ended. Whether the breaker opened.
    pub(crate) fn ended(&mut self, probe: bool, outcome: Outcome, now: Instant) -> bool {
        if let Some(open) = self.open.as_mut().filter(|_| probe) {
            open.probes = open.probes.saturating_sub(1);
        }
        match outcome {
            Outcome::Neither => false,
            Outcome::Answered => {
                self.failures = 0;
                self.successes += 1;
                if self.successes > FORGIVEN_AFTER {
                    self.last = None;
                }
                // What was begun before it opened tells nothing of the node as it is now.
                if probe {
                    self.open = None;
                }
                false
            }
            Outcome::Failed | Outcome::Slow => {
                (self.failures, self.successes) = (self.failures + 1, 0);
                let slow = outcome == Outcome::Slow;
                let opens = match self.open {
                    Some(_) => probe,
                    None => slow || self.failures >= FAILURES_MAX,
                };
                if opens {
                    self.open_for(if slow { EJECTED } else { OPEN[0] }, now);
                }
                opens
            }
        }
    }

    /// Opens it at once: the node was proven wrong.
    pub(crate) fn eject(&mut self, now: Instant) {
        if self.open.is_none() {
            self.open_for(EJECTED, now);
        }
    }

    /// The node was started anew: nothing of before counts.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    fn open_for(&mut self, at_first: Duration, now: Instant) {
        let most = OPEN[1];
        let time = self.last.map_or(at_first, |last| (last * 2).max(at_first)).min(most);
        // So that gateways do not probe at the same instant.
        let jitter = time.mul_f64(0.2 * fastrand::f64());
        self.failures = 0;
        self.last = Some(time);
        self.open = Some(Open { until: now + time + jitter, probes: 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn failing(breaker: &mut Breaker, times: u32, now: Instant) {
        for _ in 0..times {
            let probe = breaker.begun(now);
            breaker.ended(probe, Outcome::Failed, now);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_and_closes_after_a_probe() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        failing(&mut breaker, FAILURES_MAX - 1, now);
        assert!(breaker.admits(now));
        failing(&mut breaker, 1, now);
        assert!(!breaker.admits(now));
        let later = now + 2 * OPEN[0];
        assert!(breaker.admits(later));
        assert!(breaker.begun(later));
        assert!(!breaker.admits(later), "one probe at a time");
        breaker.ended(true, Outcome::Answered, later);
        assert!(breaker.admits(later) && !breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_between_failures_keeps_it_closed_and_full_is_no_failure() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..10 {
            failing(&mut breaker, FAILURES_MAX - 1, now);
            breaker.ended(false, Outcome::Answered, now);
        }
        for _ in 0..10 {
            breaker.ended(false, Outcome::Neither, now);
        }
        assert!(breaker.admits(now));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_fails_opens_it_for_longer() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        failing(&mut breaker, FAILURES_MAX, now);
        let mut last = Duration::ZERO;
        for _ in 0..8 {
            now += LONG;
            assert!(breaker.admits(now));
            failing(&mut breaker, 1, now);
            let until = breaker.open.unwrap().until - now;
            assert!(until > last || until >= OPEN[1], "{until:?}");
            last = breaker.last.unwrap();
        }
        assert_eq!(last, OPEN[1]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_ejected_stays_out_for_a_while() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        breaker.eject(now);
        assert!(!breaker.admits(now + EJECTED / 2) && breaker.admits(now + 2 * EJECTED));
        breaker.reset();
        assert!(breaker.admits(now));
    }
}
