//! Batches of jobs that compute together.

use std::time::Instant;

use c3_server::metrics::Metrics;

use crate::{
    CallError, Counter,
    queue::{Dequeued, Job},
};

/// An operation that batches are counted under.
#[derive(Clone, Copy, Debug)]
pub struct Operation<'a> {
    /// Its name in metrics.
    pub name: &'static str,
    /// Counter of work that succeeded.
    pub counter: &'a Counter,
    /// The node's metrics.
    pub metrics: &'a Metrics,
}

/// Computes a batch by `model`, which returns one result per job, and passes each job and its result to `answer`.
///
/// A batch that fails is computed again job by job, so that a bad job does not fail the others of its batch.
pub fn compute<J: Job, T>(
    batch: Vec<Dequeued<J>>,
    operation: &Operation<'_>,
    model: &impl Fn(&[&J]) -> Result<Vec<T>, CallError>,
    answer: &impl Fn(J, Result<T, CallError>),
) {
    let jobs: Vec<&J> = batch.iter().map(|dequeued| &dequeued.job).collect();
    let (started, tokens) = (Instant::now(), jobs.iter().map(|job| job.tokens()).sum());
    match model(&jobs) {
        Ok(results) => {
            operation.counter.add(batch.len(), tokens);
            operation.metrics.batch(operation.name, batch.len(), tokens, started.elapsed());
            for (Dequeued { job, running }, result) in batch.into_iter().zip(results) {
                // Before the answer, so that a caller with an answer no longer counts as load.
                drop(running);
                answer(job, Ok(result));
            }
        }
        Err(_) if batch.len() > 1 => {
            batch.into_iter().for_each(|dequeued| compute(vec![dequeued], operation, model, answer));
        }
        Err(error) => batch.into_iter().for_each(|Dequeued { job, running }| {
            drop(running);
            answer(job, Err(error.clone()));
        }),
    }
}

/// Budget of a batch, in a unit that the caller chooses. The first job always fits, or it would never run. No job fits
/// after one that did not, or small jobs would overtake a large one for ever.
#[derive(Debug)]
pub struct BatchBudget {
    left: usize,
    is_empty: bool,
}

impl BatchBudget {
    /// Creates a budget of `max`, of which `used` is spent.
    pub fn new(max: usize, used: usize) -> Self {
        Self { left: max.saturating_sub(used), is_empty: used == 0 }
    }

    /// Spends `size` if it fits, and returns whether it did.
    pub fn take(&mut self, size: usize) -> bool {
        let fits = size <= self.left || self.is_empty;
        self.left = if fits { self.left.saturating_sub(size) } else { 0 };
        self.is_empty = false;
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_job_always_fits_and_none_overtakes() {
        let mut budget = BatchBudget::new(10, 0);
        assert!(budget.take(50));
        assert!(!budget.take(1));
        let mut budget = BatchBudget::new(10, 5);
        assert!(!budget.take(6));
        assert!(!budget.take(1));
    }
}
