//! Write pipelines: text, shards, latents, corrections, store.
//!
//! [`document`] stores a text, [`mod@compress`] returns its latents and stores nothing. Both follow a [`plan`] and process
//! one [`shard`] after another. [`edit`] builds on a stored document, [`upload`] resumes an interrupted put, [`progress`]
//! tracks it. [`recode`] rewrites a stored document, [`auto`] chooses ratios, [`latents`] stores latents from outside.

mod auto;
mod chunker;
pub(crate) mod compress;
pub(crate) mod document;
mod edit;
mod hash;
pub(crate) mod latents;
mod plan;
mod progress;
pub(crate) mod recode;
mod shard;
mod text;
mod upload;

use std::sync::Arc;

use c3_types::WriteOptions;
use futures::{Stream, StreamExt};

use crate::error::Error;
use crate::spawn::spawn;
use crate::state::SharedGateway;

use self::plan::Plan;
use self::text::{Part, TextLimits};

/// Returns the size limits of a text. Errors: the declared size exceeds them.
fn limits(gateway: &SharedGateway, options: &WriteOptions) -> Result<TextLimits, Error> {
    let limits = TextLimits { bytes_max: gateway.config.document_bytes_max, bytes_declared: options.bytes };
    limits.check_declared()?;
    Ok(limits)
}

/// Runs `work` on each part of a text: several parts concurrently, results in order.
fn each_part<S, T, W>(
    gateway: SharedGateway,
    plan: Arc<Plan>,
    parts: S,
    work: fn(SharedGateway, Arc<Plan>, Part) -> W,
) -> impl Stream<Item = Result<T, Error>> + Send
where
    S: Stream<Item = Result<Part, Error>> + Send,
    T: Send + 'static,
    W: Future<Output = Result<T, Error>> + Send + 'static,
{
    let at_once = gateway.shards_in_flight();
    let begin = move |part| {
        let (gateway, plan) = (Arc::clone(&gateway), Arc::clone(&plan));
        spawn(async move { work(gateway, plan, part?).await })
    };
    parts.map(begin).buffered(at_once)
}
