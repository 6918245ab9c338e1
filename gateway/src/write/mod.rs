//! The write pipelines: text → shards → latents → corrections → store.
//!
//! [`document`] stores a text, [`oneshot`] hands its latents out and stores nothing; both go by a [`plan`] and do one
//! [`shard`] after another. [`latents`] stores latents that come from outside.

pub(crate) mod document;
pub(crate) mod latents;
pub(crate) mod oneshot;
pub(crate) mod plan;
pub(crate) mod shard;

use std::time::{SystemTime, UNIX_EPOCH};

fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
