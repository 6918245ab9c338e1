//! Batches of jobs that the model computes together.

use std::time::Instant;

use c3_server::metrics::Metrics;

use crate::queue::{Dequeued, Job};
use crate::{CallError, Counter};

/// Operation of a batch, with the instruments that count it.
#[derive(Clone, Copy, Debug)]
pub struct Operation<'a> {
    /// Name of the operation in metrics.
    pub name: &'static str,
    /// Counter of work that succeeded.
    pub counter: &'a Counter,
    /// The node's metrics.
    pub metrics: &'a Metrics,
}

/// Computes a batch with `model`, which returns one result per job. Passes each job and its result to `answer`.
///
/// If `model` fails for several jobs, computes each job alone, so that one bad job does not fail the others.
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
                // Dropped before the answer, so that an answered job no longer counts as load.
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

/// Budget of a batch, in a unit that the caller chooses. The first job always fits, so that a job above the budget can
/// run. After a job that does not fit, no job fits, so that small jobs cannot overtake a large job for ever.
#[derive(Debug)]
pub struct BatchBudget {
    left: usize,
    is_empty: bool,
}

impl BatchBudget {
    /// Creates a budget of `max`, of which `used` is spent already. If `used` is 0, the batch is empty, so its first
    /// job always fits.
    pub fn new(max: usize, used: usize) -> Self {
        Self { left: max.saturating_sub(used), is_empty: used == 0 }
    }

    /// Returns whether a job of `size` fits. If so, spends `size`; otherwise spends the rest of the budget.
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
