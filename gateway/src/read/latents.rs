//! Latents of a document: as a stream of its stored windows, and as a safetensors file.

use std::sync::Arc;

use async_stream::try_stream;
use bytes::Bytes;
use c3_types::latents_file::{Header, TensorFormat, WindowRecord};
use c3_types::{Document, Window};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, pin_mut, stream};

use crate::error::Error;
use crate::state::SharedGateway;

/// Maximum bytes of the latents of a file that is built in memory. The latents of a larger file are read twice: for the
/// header, which describes all of them, and for the tensors.
const BUFFERED_BYTES_MAX: usize = 1 << 20;

/// Event of a GetLatents call.
#[derive(Debug)]
pub(crate) enum LatentsEvent {
    /// The document. The first event.
    Document(Box<Document>),
    /// The next window.
    Window(Window),
}

/// The latents of a document as a safetensors file.
pub(crate) struct LatentsFile {
    pub(crate) document: Document,
    /// Size in bytes.
    pub(crate) size: u64,
    pub(crate) content: BoxStream<'static, Result<Bytes, Error>>,
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

/// Returns the latents of a document as a file. The content fails with [`Error::Changed`] if the document is replaced
/// while it is read.
pub(crate) async fn latents_file(
    gateway: SharedGateway,
    reference: String,
    format: TensorFormat,
) -> Result<LatentsFile, Error> {
    let (mut document, mut records) = (None, Vec::new());
    let (mut buffered, mut bytes) = (Vec::new(), 0);
    let events = get_latents(Arc::clone(&gateway), reference);
    pin_mut!(events);
    while let Some(event) = events.try_next().await? {
        match event {
            LatentsEvent::Document(found) => document = Some(*found),
            LatentsEvent::Window(window) => {
                records.push(WindowRecord::of(&window));
                bytes += window.group.data().len();
                if bytes > BUFFERED_BYTES_MAX {
                    buffered.clear();
                } else {
                    buffered.push(window);
                }
            }
        }
    }
    let document = document.ok_or_else(|| Error::Internal("a stream of latents had no document".to_owned()))?;
    let header = Header::new(format, Some(&document), records)?;
    let start = header.to_bytes();
    let size = (start.len() + header.data_bytes()) as u64;
    let content = if bytes > BUFFERED_BYTES_MAX {
        stream::iter([Ok(start)]).chain(tensors(gateway, document.clone(), header)).boxed()
    } else {
        let tensors = buffered.iter().enumerate().filter_map(|(number, window)| header.tensor(number, window));
        let mut file = Vec::with_capacity(size as usize);
        std::iter::once(start).chain(tensors).for_each(|part| file.extend_from_slice(&part));
        stream::iter([Ok(file.into())]).boxed()
    };
    Ok(LatentsFile { document, size, content })
}

/// Reads the windows of a document again, and streams the tensors that the header describes.
fn tensors(
    gateway: SharedGateway,
    document: Document,
    header: Header,
) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    try_stream! {
        let windows = get_latents(gateway, document.id.to_string());
        let windows = windows.try_filter_map(async |event| match event {
            LatentsEvent::Window(window) => Ok(Some(window)),
            LatentsEvent::Document(_) => Ok(None),
        });
        pin_mut!(windows);
        for number in 0..header.windows() {
            let window = windows.try_next().await?;
            let tensor = window.and_then(|window| header.tensor(number, &window));
            yield tensor.ok_or(Error::Changed(document.id))?;
        }
    }
}
