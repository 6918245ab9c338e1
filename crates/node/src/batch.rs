//! Batches of jobs that the model computes together.

use crate::queue::{Dequeued, Job};
use crate::{CallError, Node, Operation};

/// Computes a batch with `model`, which returns one result per job. Passes each job and its result to `answer`.
/// `tokens_max` is the maximum size of a batch in text tokens.
///
/// If `model` fails for several jobs, computes each job alone, so that one bad job does not fail the others.
pub fn compute<J: Job, N: Job, M, T>(
    batch: Vec<Dequeued<J>>,
    node: &Node<N, M>,
    operation: Operation,
    tokens_max: usize,
    model: &impl Fn(&[&J]) -> Result<Vec<T>, CallError>,
    answer: &impl Fn(J, Result<T, CallError>),
) {
    let jobs: Vec<&J> = batch.iter().map(|dequeued| &dequeued.job).collect();
    let tokens = jobs.iter().map(|job| job.tokens()).sum::<usize>();
    let computing = node.device_load().computing();
    match model(&jobs) {
        Ok(results) => {
            let duration = computing.finish(operation, tokens, tokens as f64 / tokens_max as f64);
            node.counters().of(operation).add(batch.len(), tokens);
            node.metrics().batch(operation.as_str(), batch.len(), tokens, duration);
            for (Dequeued { job, running }, result) in batch.into_iter().zip(results) {
                // Dropped before the answer, so that an answered job no longer counts as load.
                drop(running);
                answer(job, Ok(result));
            }
        }
        Err(_) if batch.len() > 1 => {
            drop(computing);
            for dequeued in batch {
                compute(vec![dequeued], node, operation, tokens_max, model, answer);
            }
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
