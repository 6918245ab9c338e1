//! Write pipelines: text, shards, latents, corrections, store. A *shard* is a part of a text that is compressed as a
//! unit.
//!
//! [`document`] stores a text. [`mod@compress`] returns the latents of a text and stores nothing. Both follow a
//! [`plan`] and process several [`shard`]s concurrently. [`append`] keeps the unchanged part of a base document,
//! [`upload`] resumes interrupted puts, [`progress`] reports how far a put is. [`recode`] rewrites a stored document,
//! [`auto`] chooses ratios, [`latents`] imports latents made elsewhere.

mod append;
mod auto;
mod chunker;
pub(crate) mod compress;
pub(crate) mod document;
#[cfg(test)]
mod fuzz;
mod hash;
pub(crate) mod latents;
mod plan;
mod progress;
pub(crate) mod recode;
mod shard;
mod text;
pub(crate) mod upload;

use std::sync::Arc;

use futures::{Stream, StreamExt};

use self::plan::WritePlan;
use self::text::TextPart;
use crate::error::Error;
use crate::spawn::spawn;
use crate::state::SharedGateway;

/// Runs `work` on the parts of a text, several of them concurrently, and yields the results in order.
fn map_parts<S, T, W>(
    gateway: SharedGateway,
    plan: Arc<WritePlan>,
    parts: S,
    work: fn(SharedGateway, Arc<WritePlan>, TextPart) -> W,
) -> impl Stream<Item = Result<T, Error>> + Send
where
    S: Stream<Item = Result<TextPart, Error>> + Send,
    T: Send + 'static,
    W: Future<Output = Result<T, Error>> + Send + 'static,
{
    let in_flight_max = gateway.shards_in_flight();
    let start = move |part| {
        let (gateway, plan) = (Arc::clone(&gateway), Arc::clone(&plan));
        spawn(async move { work(gateway, plan, part?).await })
    };
    parts.map(start).buffered(in_flight_max)
}
