//! Activity of a connection: the calls in flight on it, and the time without any.

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use crate::cancellations::CancellationBudget;

/// Number of calls in flight on a connection, and the time of the last change of this number.
pub(crate) struct Activity(Mutex<(usize, Instant)>, Notify);

impl Default for Activity {
    fn default() -> Self {
        Self(Mutex::new((0, Instant::now())), Notify::new())
    }
}

impl Activity {
    /// Counts a call as in flight until the guard is dropped. `budget` is that of the connection.
    pub(crate) fn begin(self: &Arc<Self>, budget: &Arc<CancellationBudget>) -> InFlight {
        self.update(|calls| calls + 1);
        self.1.notify_one();
        InFlight { activity: Arc::clone(self), budget: Some(Arc::clone(budget)) }
    }

    /// Waits until `limit` has passed without any call. Waits for ever once a call has begun.
    pub(crate) async fn without_first_call(&self, limit: Duration) {
        if timeout(limit, self.1.notified()).await.is_ok() {
            pending::<()>().await;
        }
    }

    fn update(&self, change: impl FnOnce(usize) -> usize) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (change(state.0), Instant::now());
    }

    /// Returns the time since the last call ended, or since the connection began if it had no call; zero during a call.
    pub(crate) fn idle(&self) -> Duration {
        let (calls, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if calls == 0 { since.elapsed() } else { Duration::ZERO }
    }

    /// Waits until the connection has had no call in flight for `limit`.
    pub(crate) async fn idle_for(&self, limit: Duration) {
        loop {
            let idle = self.idle();
            if idle >= limit {
                return;
            }
            sleep_until(Instant::now() + (limit - idle)).await;
        }
    }
}

/// Guard that counts a call as in flight, and as cancelled if it is dropped before its response has ended.
pub(crate) struct InFlight {
    activity: Arc<Activity>,
    /// `None` once the response has ended.
    budget: Option<Arc<CancellationBudget>>,
}

impl InFlight {
    /// Records that the response has ended.
    pub(crate) fn complete(&mut self) {
        self.budget.take().inspect(|budget| budget.completed());
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.activity.update(|calls| calls - 1);
        if let Some(budget) = &self.budget {
            budget.cancelled();
        }
    }
}
