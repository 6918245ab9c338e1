//! Cancelled calls of a connection. A caller that opens and cancels calls all the time (HTTP/2 rapid reset,
//! CVE-2023-44487) makes the server work without ever exceeding the maximum of concurrent calls.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

/// Budget of cancelled calls of one connection: a token bucket.
#[derive(Debug)]
pub(crate) struct CancellationBudget {
    /// Cancellations at once.
    burst: f64,
    /// Cancellations a second in the long run.
    rate: f64,
    /// Tokens left, and the time of the last change.
    left: Mutex<(f64, Instant)>,
    exceeded: Notify,
}

impl CancellationBudget {
    /// Allows `burst` cancellations at once, and an eighth of them each second.
    pub(crate) fn new(burst: u32) -> Self {
        let burst = f64::from(burst);
        Self { burst, rate: burst / 8.0, left: Mutex::new((burst, Instant::now())), exceeded: Notify::new() }
    }

    /// Counts a cancelled call.
    pub(crate) fn cancelled(&self) {
        // No code that holds this lock panics.
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let refilled = left.0 + now.saturating_duration_since(left.1).as_secs_f64() * self.rate;
        *left = (refilled.min(self.burst) - 1.0, now);
        if left.0 < 0.0 {
            self.exceeded.notify_one();
        }
    }

    /// Waits until the connection has cancelled too many calls.
    pub(crate) async fn exceeded(&self) {
        self.exceeded.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_allowed_and_a_flood_is_not() {
        let budget = CancellationBudget::new(80);
        let is_exceeded = async || timeout(Duration::ZERO, budget.exceeded()).await.is_ok();
        (0..80).for_each(|_| budget.cancelled());
        assert!(!is_exceeded().await);
        // The long-term rate is 10 a second.
        for _ in 0..50 {
            sleep(Duration::from_secs(1)).await;
            (0..10).for_each(|_| budget.cancelled());
        }
        assert!(!is_exceeded().await);
        (0..2).for_each(|_| budget.cancelled());
        assert!(is_exceeded().await);
    }
}
