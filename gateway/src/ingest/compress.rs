//! One-shot Compress: returns the latents of a text and stores nothing.

use std::sync::Arc;

use async_stream::try_stream;
use bytes::Bytes;
use c3_store::Shard;
use c3_types::{Invalid, Window, WriteOptions};
use futures::{Stream, StreamExt, pin_mut};

use super::map_parts;
use super::plan::WritePlan;
use super::shard::compress_shard;
use super::text::{self, TextLimits, TextPart, TextPrefix};
use crate::error::Error;
use crate::metrics::Direction;
use crate::state::SharedGateway;

/// Streams the windows of a text in order.
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
            Err(Invalid::new("auto_ratio", "is supported only for stored documents: choose a ratio"))?;
        }
        let limits = TextLimits::new(gateway.config.document_size_max.0, options.bytes)?;
        let parts = text::shards(TextPrefix::default(), pieces, limits);
        let plan = Arc::new(WritePlan::new(&options, &gateway).await?);
        let shards = map_parts(Arc::clone(&gateway), plan, parts, compress_part).enumerate();
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
        gateway.count_text(Direction::In, start, tokens);
    }
}

/// Compresses one part of a text. Returns `None` for the end of the text.
async fn compress_part(gateway: SharedGateway, plan: Arc<WritePlan>, part: TextPart) -> Result<Option<Shard>, Error> {
    match part {
        TextPart::Shard(text) | TextPart::OnlyShard(text) => Ok(Some(compress_shard(&gateway, &plan, &text).await?)),
        TextPart::End(_) => Ok(None),
    }
}
