//! Waiting for a condition, never for a while.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, interval};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `check` has a value. Errors once `limit` is over, naming what was waited for.
pub async fn until<T>(what: &str, limit: Duration, mut check: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut looks = interval(LOOK_EVERY);
    while Instant::now() < deadline {
        looks.tick().await;
        if let Some(value) = check().await {
            return Ok(value);
        }
    }
    bail!("waited {limit:?} in vain for {what}")
}
