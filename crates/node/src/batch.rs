//! Computing what was taken from the queue side by side.

use std::time::Instant;

use c3_server::metrics::Metrics;
use tonic::Status;

use crate::{
    Counter,
    error::status,
    queue::{Job, Taken},
};

/// Computes all jobs of a batch at once and gives each the `answer` that is its own. A batch that fails is computed
/// again job by job: a bad one must not fail those that happened to come with it.
pub fn compute<J: Job, T>(
    batch: Vec<Taken<J>>,
    work: &Work<'_>,
    model: &impl Fn(&[&J]) -> Result<Vec<T>, c3_cascade::Error>,
    answer: &impl Fn(J, Result<T, Status>),
) {
    let jobs: Vec<&J> = batch.iter().map(|taken| &taken.job).collect();
    let (began, tokens) = (Instant::now(), jobs.iter().map(|job| job.tokens()).sum());
    match model(&jobs) {
        Ok(results) => {
            work.counter.add(batch.len(), tokens);
            work.metrics.batch(work.name, batch.len(), tokens, began.elapsed());
            // Who has an answer finds its place free.
            for (Taken { job, place }, result) in batch.into_iter().zip(results) {
                drop(place);
                answer(job, Ok(result));
            }
        }
        Err(_) if batch.len() > 1 => {
            batch.into_iter().for_each(|taken| compute(vec![taken], work, model, answer));
        }
        Err(error) => batch.into_iter().for_each(|Taken { job, place }| {
            drop(place);
            answer(job, Err(status(&error)));
        }),
    }
}

/// What a batch is counted as.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a> {
    /// Its name in metrics.
    pub name: &'static str,
    /// Counts what succeeded.
    pub counter: &'a Counter,
    /// The node's metrics.
    pub metrics: &'a Metrics,
}
