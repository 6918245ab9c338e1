//! The write pipelines: text → shards → latents → corrections → store.
//!
//! [`document`] stores a text, [`oneshot`] hands its latents out and stores nothing; both go by a [`plan`] and do one
//! [`shard`] after another. [`latents`] stores latents that come from outside.

pub(crate) mod document;
pub(crate) mod latents;
pub(crate) mod oneshot;
pub(crate) mod plan;
pub(crate) mod shard;

use std::sync::Arc;

use bytes::Bytes;
use c3_proto::WriteOptions;
use futures::{Stream, StreamExt};

use crate::error::Failure;
use crate::gateway::SharedGateway;
use crate::task;
use crate::text::{self, Part, TextLimits};

use plan::Plan;

/// Gives each part of a text that arrives in pieces to `work`: several side by side, their results in order.
async fn each_part<S, T, W>(
    gateway: SharedGateway,
    options: &WriteOptions,
    pieces: S,
    work: fn(SharedGateway, Arc<Plan>, Part) -> W,
) -> Result<(Arc<Plan>, impl Stream<Item = Result<T, Failure>> + Send), Failure>
where
    S: Stream<Item = Result<Bytes, Failure>> + Send,
    T: Send + 'static,
    W: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let limits = TextLimits { bytes_max: gateway.config.document_bytes_max, bytes_declared: options.bytes };
    limits.check_declared()?;
    let plan = Arc::new(Plan::new(options, &gateway).await?);
    let at_once = gateway.config.shards_in_flight;
    let done = text::shards(pieces, limits)
        .map({
            let plan = Arc::clone(&plan);
            move |part| {
                let (gateway, plan) = (Arc::clone(&gateway), Arc::clone(&plan));
                task::begin(async move { work(gateway, plan, part?).await })
            }
        })
        .buffered(at_once);
    Ok((plan, done))
}
