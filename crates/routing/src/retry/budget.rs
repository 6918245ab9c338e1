//! Retry budget shared by all calls, as in Finagle. It permits retries in proportion to the calls, plus a fixed number
//! per second, so that a gateway with few calls can retry too.
//!
//! Without a budget, retries would add load to nodes that fail because they are overloaded.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// Retries that each call adds to the budget.
const RETRIES_PER_CALL: f64 = 0.2;
/// Retries added each second, regardless of the number of calls.
const RETRIES_PER_SECOND: f64 = 10.0;
/// Maximum balance, in retries: enough to retry all calls that are in flight on a node when it dies. A node with a GPU
/// has two batches in flight, which are about 400 windows (parts of a text, each decoded by a call), and up to twice as
/// many if several principals (callers) have calls on it.
const BALANCE_MAX: f64 = 1000.0;

/// Token bucket of retries.
#[derive(Debug)]
pub(crate) struct RetryBudget(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    balance: f64,
    refilled: Instant,
}

impl RetryBudget {
    /// Returns a budget with the maximum balance.
    pub(crate) fn full() -> Self {
        Self(Mutex::new(Bucket { balance: BALANCE_MAX, refilled: Instant::now() }))
    }

    /// Adds [`RETRIES_PER_CALL`] to the budget. Must be called once per call, not per retry.
    pub(crate) fn deposit(&self) {
        self.with(|bucket| bucket.balance = (bucket.balance + RETRIES_PER_CALL).min(BALANCE_MAX));
    }

    /// Takes one retry from the budget. Returns `false` if none is left.
    pub(crate) fn withdraw(&self) -> bool {
        self.with(|bucket| {
            let granted = bucket.balance >= 1.0;
            bucket.balance -= if granted { 1.0 } else { 0.0 };
            granted
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Bucket) -> T) -> T {
        // No code that holds this lock panics.
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let refill = RETRIES_PER_SECOND * (now - bucket.refilled).as_secs_f64();
        *bucket = Bucket { balance: (bucket.balance + refill).min(BALANCE_MAX), refilled: now };
        change(&mut bucket)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spend(budget: &RetryBudget) -> usize {
        std::iter::repeat_with(|| budget.withdraw()).take_while(|&granted| granted).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_fifth_of_the_calls_can_be_retried() {
        let budget = RetryBudget::full();
        assert_eq!(spend(&budget), BALANCE_MAX as usize);
        (0..100).for_each(|_| budget.deposit());
        assert!((19..=20).contains(&spend(&budget)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_balance_refills_with_time_up_to_its_maximum() {
        let budget = RetryBudget::full();
        spend(&budget);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(spend(&budget), RETRIES_PER_SECOND as usize);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(spend(&budget), BALANCE_MAX as usize);
    }
}
