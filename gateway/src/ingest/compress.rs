//! One-shot Compress: a text's latents go to the caller, and nothing is stored.

use std::sync::Arc;

use async_stream::try_stream;
use bytes::Bytes;
use c3_types::{Invalid, Window, WriteOptions};
use futures::{Stream, StreamExt, pin_mut};

use super::plan::Plan;
use super::shard::compress_shard;
use super::{each_part, limits};
use crate::error::Error;
use crate::ingest::text::{self, Begun, Part};
use crate::metrics::Direction;
use crate::state::SharedGateway;
use c3_store::Shard;

/// The windows of a text, in order.
pub(crate) fn compress<S>(
    gateway: SharedGateway,
    options: WriteOptions,
    pieces: S,
) -> impl Stream<Item = Result<Window, Error>> + Send
where
    S: Stream<Item = Result<Bytes, Error>> + Send,
{
    try_stream! {
        options.check_without_upload()?;
        if options.auto_ratio.is_some() {
            Err(Invalid::new("auto_ratio", "ratios are chosen for texts that are stored: give one"))?;
        }
        let parts = text::shards(Begun::default(), pieces, limits(&gateway, &options)?);
        let plan = Arc::new(Plan::new(&options, &gateway).await?);
        let shards = each_part(Arc::clone(&gateway), plan, parts, compress_part).enumerate();
        pin_mut!(shards);

        let (mut start, mut tokens) = (0, 0);
        while let Some((number, shard)) = shards.next().await {
            let Some(shard) = shard? else { break };
            let mut end = start;
            for window in shard.windows {
                end = start + u64::from(window.bytes.end);
                tokens += u64::from(window.group.tokens());
                yield Window {
                    shard: number as u32,
                    bytes: start + u64::from(window.bytes.start)..end,
                    group: window.group,
                    hash: window.hash,
                    corrections: window.corrections,
                };
            }
            start = end;
        }
        gateway.metrics.text(Direction::In, start, tokens);
    }
}

/// A shard's windows; `None` at the end of the text.
async fn compress_part(gateway: SharedGateway, plan: Arc<Plan>, part: Part) -> Result<Option<Shard>, Error> {
    match part {
        Part::Shard(text) | Part::Whole(text) => Ok(Some(compress_shard(&gateway, &plan, &text).await?)),
        Part::End(_) => Ok(None),
    }
}
