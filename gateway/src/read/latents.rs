//! GetLatents: streams the stored windows of a document.

use async_stream::try_stream;
use c3_types::{Document, Window};
use futures::Stream;

use crate::error::Error;
use crate::state::SharedGateway;

/// Event of a GetLatents call.
#[derive(Debug)]
pub(crate) enum LatentsEvent {
    /// The document. The first event.
    Document(Box<Document>),
    /// The next window.
    Window(Window),
}

/// Streams the windows of a document in order. Fails with [`Error::Changed`] if the version that is read was replaced
/// and its objects were removed: the stream cannot continue with another version, which may have other windows.
pub(crate) fn get_latents(
    gateway: SharedGateway,
    id: String,
) -> impl Stream<Item = Result<LatentsEvent, Error>> + Send {
    try_stream! {
        let found = gateway.find(&id).await?;
        let manifest = &found.value;
        yield LatentsEvent::Document(Box::new(manifest.document(found.bytes)));
        let mut start = 0;
        for (number, entry) in manifest.shards.iter().enumerate() {
            let end = start + entry.bytes();
            let label = format!("shard {number} (bytes {start}..{end})");
            let shard = match gateway.shard(&found, number).await {
                Ok(shard) => shard,
                Err(error) => Err(gateway.shard_error(manifest, &label, &error).await)?,
            };
            for window in &shard.windows {
                yield LatentsEvent::Window(Window {
                    shard: number as u32,
                    bytes: start + u64::from(window.bytes.start)..start + u64::from(window.bytes.end),
                    group: window.group.clone(),
                    hash: window.hash,
                    corrections: window.corrections.clone(),
                });
            }
            start = end;
        }
    }
}
