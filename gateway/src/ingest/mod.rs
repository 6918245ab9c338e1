//! The write pipelines: text → shards → latents → corrections → store.
//!
//! [`document`] stores a text, [`oneshot`] hands its latents out and stores nothing; both go by a [`plan`] and do one
//! [`shard`] after another. A text may have a stored document for its [`mod@base`], and its put can be taken up by the name
//! of its [`upload`]; a [`tally`] tells how far it is. [`recode`] stores a document's text anew, [`auto`] chooses ratios. [`latents`] stores latents
//! that come from outside.

pub(crate) mod auto;
mod base;
pub(crate) mod document;
pub(crate) mod latents;
pub(crate) mod oneshot;
pub(crate) mod plan;
pub(crate) mod recode;
pub(crate) mod shard;
pub(crate) mod tally;
mod upload;

use std::sync::Arc;

use c3_proto::WriteOptions;
use futures::{Stream, StreamExt};

use crate::error::Failure;
use crate::gateway::SharedGateway;
use crate::task;
use crate::text::{Part, TextLimits};

use plan::Plan;

/// The bounds of a text that is to be written with these options, if the size that it declares keeps them.
fn limits(gateway: &SharedGateway, options: &WriteOptions) -> Result<TextLimits, Failure> {
    let limits = TextLimits { bytes_max: gateway.config.document_bytes_max, bytes_declared: options.bytes };
    limits.check_declared()?;
    Ok(limits)
}

/// Gives each part of a text to `work`: several side by side, their results in order.
fn each_part<S, T, W>(
    gateway: SharedGateway,
    plan: Arc<Plan>,
    parts: S,
    work: fn(SharedGateway, Arc<Plan>, Part) -> W,
) -> impl Stream<Item = Result<T, Failure>> + Send
where
    S: Stream<Item = Result<Part, Failure>> + Send,
    T: Send + 'static,
    W: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let at_once = gateway.shards_at_once();
    let begin = move |part| {
        let (gateway, plan) = (Arc::clone(&gateway), Arc::clone(&plan));
        task::begin(async move { work(gateway, plan, part?).await })
    };
    parts.map(begin).buffered(at_once)
}
