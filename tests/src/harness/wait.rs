//! Polling for a condition.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, interval};

/// Interval between the starts of two polls.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Polls `check` until it returns a value. Fails if `limit` has passed after an unsuccessful poll. The error names
/// `what`.
pub async fn until<T>(what: &str, limit: Duration, mut check: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut looks = interval(LOOK_EVERY);
    while Instant::now() < deadline {
        looks.tick().await;
        if let Some(value) = check().await {
            return Ok(value);
        }
    }
    bail!("timed out after {limit:?} waiting for {what}")
}
