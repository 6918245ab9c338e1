//! Retries: the attempts of one call, and the budget that all calls share.

mod attempts;
mod budget;

pub(crate) use attempts::{AttemptError, Attempts, RETRY_AFTER_MAX};
pub(crate) use budget::RetryBudget;
