//! How much more than it was asked for a gateway may ask of its nodes: retries, in proportion to calls.
//!
//! Without a bound, nodes that fail for want of time would be asked ever more. As in Finagle, a share of the calls and
//! a few a second, so that a gateway with few calls may retry as well.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// Retries to a call.
const SHARE: f64 = 0.2;
/// Beside these, a second.
const RESERVE_PER_SECOND: f64 = 10.0;
/// What may be saved up: a node that dies takes all its calls with it, and each is retried.
const SAVED_MAX: f64 = 200.0;

/// Retries that are left.
#[derive(Debug)]
pub(crate) struct Budget(Mutex<Saved>);

#[derive(Debug)]
struct Saved {
    left: f64,
    at: Instant,
}

impl Budget {
    /// All that may be saved up.
    pub(crate) fn full() -> Self {
        Self(Mutex::new(Saved { left: SAVED_MAX, at: Instant::now() }))
    }

    /// A call is made.
    pub(crate) fn earn(&self) {
        self.with(|saved| saved.left = (saved.left + SHARE).min(SAVED_MAX));
    }

    /// Takes a retry, if one is left.
    pub(crate) fn take_retry(&self) -> bool {
        self.with(|saved| {
            let taken = saved.left >= 1.0;
            saved.left -= if taken { 1.0 } else { 0.0 };
            taken
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Saved) -> T) -> T {
        // Nothing panics while it holds the lock.
        let mut saved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let earned = RESERVE_PER_SECOND * (now - saved.at).as_secs_f64();
        (saved.left, saved.at) = ((saved.left + earned).min(SAVED_MAX), now);
        change(&mut saved)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spend(budget: &Budget) -> usize {
        std::iter::repeat_with(|| budget.take_retry()).take_while(|&taken| taken).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_fifth_of_the_calls_may_be_retried() {
        let budget = Budget::full();
        assert_eq!(spend(&budget), SAVED_MAX as usize);
        (0..100).for_each(|_| budget.earn());
        assert!((19..=20).contains(&spend(&budget)));
    }

    #[tokio::test(start_paused = true)]
    async fn some_come_with_time_and_no_more_than_can_be_saved() {
        let budget = Budget::full();
        spend(&budget);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(spend(&budget), RESERVE_PER_SECOND as usize);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(spend(&budget), SAVED_MAX as usize);
    }
}
