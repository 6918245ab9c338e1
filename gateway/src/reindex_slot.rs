//! The state of a tenant's reindex job. `search/reindex_job.rs` runs the job.

use std::sync::{Mutex, MutexGuard, PoisonError};

use c3_types::{ReindexJob, ReindexState};
use tokio_util::sync::CancellationToken;

/// State of the running or last reindex job of a tenant. It outlives the tenant's state in [`crate::tenants::Tenants`].
pub(crate) struct ReindexSlot {
    job: Mutex<ReindexJob>,
    stop: CancellationToken,
}

impl ReindexSlot {
    /// Returns the slot of a tenant that has started no job. A job ends when `stop` is cancelled.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self { job: Mutex::default(), stop }
    }

    /// Returns the token that is cancelled when the gateway shuts down.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Returns the state of the running or last job.
    pub(crate) fn job(&self) -> ReindexJob {
        self.lock().clone()
    }

    /// Sets the state of a new job and returns it. Returns `None` and changes nothing if a job is running.
    pub(crate) fn try_begin(&self) -> Option<ReindexJob> {
        let mut job = self.lock();
        if job.is_active() {
            return None;
        }
        *job = ReindexJob { state: ReindexState::Running, ..ReindexJob::default() };
        Some(job.clone())
    }

    /// Changes the state and returns it. `change` must not panic.
    pub(crate) fn update(&self, change: impl FnOnce(&mut ReindexJob)) -> ReindexJob {
        let mut job = self.lock();
        change(&mut job);
        job.clone()
    }

    fn lock(&self) -> MutexGuard<'_, ReindexJob> {
        // No code that holds this lock panics.
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_job_runs_at_a_time() {
        let slot = ReindexSlot::new(CancellationToken::new());
        assert_eq!(slot.job().state, ReindexState::Idle);
        assert!(slot.try_begin().is_some() && slot.try_begin().is_none());
        slot.update(|job| (job.state, job.reindexed) = (ReindexState::Waiting, 3));
        assert!(slot.try_begin().is_none());
        slot.update(|job| job.state = ReindexState::Ended);
        assert_eq!(slot.job().reindexed, 3);
        assert_eq!(slot.try_begin().unwrap().reindexed, 0);
    }
}
