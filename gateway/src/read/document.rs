//! Streams a document's text, or a byte range of it.
//!
//! A *window* is a part of a document that is decoded as a unit. Only windows that overlap the range are loaded and
//! decoded, several of them ahead of the caller. They are released in order, each after its text was checked against
//! its hash. If the range is the whole document, the last window is released only if the hash of the whole text is the
//! document's id.
//!
//! While a document is read, another request may replace the version that is read, and garbage collection may then
//! remove that version's objects. In this case, the read continues at the same byte with the current version.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use async_stream::try_stream;
use bytes::Bytes;
use c3_store::cache::ResolvedManifest;
use c3_store::manifest::Manifest;
use c3_store::{Shard, ShardWindow};
use c3_types::{ByteRange, Document, DocumentId};
use futures::{Stream, StreamExt, TryStreamExt, pin_mut, stream};

use super::window::{self, EncodedWindow};
use crate::error::Error;
use crate::metrics::Direction;
use crate::spawn::spawn;
use crate::state::{DecodedWindow, Gateway, SharedGateway};

/// Event of a GetText call.
#[derive(Debug)]
pub(crate) enum GetEvent {
    /// The first event: the document, and the byte range of the text that follows.
    Header { document: Box<Document>, range: Range<u64> },
    /// The next piece of the text.
    Text(TextPiece),
}

/// The text of a window, cut to the requested range.
#[derive(Debug)]
pub(crate) struct TextPiece {
    pub(crate) text: Bytes,
    /// Index of the window in the document.
    pub(crate) window: u64,
    /// Offset of the piece's first byte in the document.
    pub(crate) start: u64,
    /// Positions of the window's tokens that were forced by corrections.
    pub(crate) corrected: Arc<[u32]>,
}

/// Position of a window in a document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WindowPosition {
    /// Index of the window in the document.
    pub(crate) index: u64,
    /// Index of the window's shard in the document.
    pub(super) shard: usize,
    /// Index of the window in its shard.
    pub(super) in_shard: usize,
    /// Byte range in the document.
    pub(crate) bytes: Range<u64>,
}

/// A document that is about to be read.
#[derive(Clone)]
pub(crate) struct OpenDocument {
    gateway: SharedGateway,
    found: Arc<ResolvedManifest>,
    opened: Instant,
}

impl OpenDocument {
    /// Finds a document. `reference` is an id, a unique prefix of an id, or a name.
    pub(crate) async fn open(gateway: SharedGateway, reference: &str) -> Result<Self, Error> {
        let opened = Instant::now();
        let found = gateway.find(reference).await?;
        Ok(Self { gateway, found, opened })
    }

    /// Returns the version of the document that was found.
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.found.value
    }

    /// Returns the document without its labels.
    pub(crate) fn document(&self) -> Document {
        self.found.value.document(self.found.bytes)
    }

    /// Returns the range in this document. Fails with [`Error::OutOfRange`] if it exceeds the document.
    pub(crate) fn range(&self, range: ByteRange) -> Result<Range<u64>, Error> {
        let size = self.found.value.bytes();
        range.within(size).map_err(|_| Error::OutOfRange { range: range.to_string(), size, unit: "bytes" })
    }

    /// Streams the text of a range, which must lie within the document.
    pub(crate) fn text(&self, range: Range<u64>) -> impl Stream<Item = Result<TextPiece, Error>> + Send + use<> {
        let (gateway, mut opened) = (Arc::clone(&self.gateway), Some(self.opened));
        stream_text(Arc::clone(&gateway), Arc::clone(&self.found), range).inspect_ok(move |_| {
            if let Some(opened) = opened.take() {
                gateway.metrics.first_byte(opened.elapsed());
            }
        })
    }
}

/// Streams the text of a document, or a range of it.
pub(crate) fn get_text(
    gateway: SharedGateway,
    id: String,
    range: ByteRange,
) -> impl Stream<Item = Result<GetEvent, Error>> + Send {
    try_stream! {
        let open = OpenDocument::open(gateway, &id).await?;
        let range = open.range(range)?;
        yield GetEvent::Header { document: Box::new(open.document()), range: range.clone() };
        let pieces = open.text(range);
        pin_mut!(pieces);
        while let Some(piece) = pieces.try_next().await? {
            yield GetEvent::Text(piece);
        }
    }
}

/// Streams the text of a document, or a range of it, without the header.
pub(crate) fn document_text(
    gateway: SharedGateway,
    id: DocumentId,
    range: ByteRange,
) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    try_stream! {
        let found = gateway.manifest(id).await?;
        let range = range.within(found.value.bytes())?;
        let pieces = stream_text(gateway, found, range);
        pin_mut!(pieces);
        while let Some(piece) = pieces.try_next().await? {
            yield piece.text;
        }
    }
}

/// Streams the text of a range of a version of a document. The range must lie within the document.
fn stream_text(
    gateway: SharedGateway,
    found: Arc<ResolvedManifest>,
    range: Range<u64>,
) -> impl Stream<Item = Result<TextPiece, Error>> + Send {
    try_stream! {
        let (id, bytes) = (found.value.id, found.value.bytes());
        let mut rest = range;
        let mut document_hasher = (rest == (0..bytes)).then(blake3::Hasher::new);
        let mut found = found;
        while !rest.is_empty() {
            let windows = decoded_windows(Arc::clone(&gateway), Arc::clone(&found), &rest);
            pin_mut!(windows);
            while let Some(window) = windows.next().await {
                let (position, DecodedWindow { text, tokens, corrected }) = match window {
                    // The objects of this version are gone. The version that replaced it has the same text.
                    Err(Error::Changed(_)) => {
                        found = gateway.manifest(id).await?;
                        if found.value.bytes() != bytes {
                            Err(Error::DataLoss(format!("document {id}: its versions differ in size")))?;
                        }
                        break;
                    }
                    window => window?,
                };
                let text = text.slice(cut(&position.bytes, &rest));
                let start = rest.start;
                rest.start += text.len() as u64;
                if let Some(hasher) = &mut document_hasher {
                    hasher.update(&text);
                    if rest.is_empty() && hasher.finalize().as_bytes() != id.as_bytes() {
                        let problem = "each window matches its hash, but the whole text does not match the id";
                        Err(Error::DataLoss(format!("document {id}: {problem}")))?;
                    }
                }
                gateway.count_text(Direction::Out, text.len() as u64, tokens);
                yield TextPiece { text, window: position.index, start, corrected };
            }
        }
    }
}

/// Decodes the windows of a version that overlap a range, several of them ahead of the caller. Yields them in order.
fn decoded_windows(
    gateway: SharedGateway,
    found: Arc<ResolvedManifest>,
    range: &Range<u64>,
) -> impl Stream<Item = Result<(WindowPosition, DecodedWindow), Error>> + Send + use<> {
    let positions = Vec::from_iter(positions(&found.value).filter(|position| overlaps(position, range)));
    let look_ahead = gateway.look_ahead();
    let decode = move |position| {
        let (gateway, found) = (Arc::clone(&gateway), Arc::clone(&found));
        spawn(async move { decode_once(gateway, found, position).await })
    };
    stream::iter(positions).map(decode).buffered(look_ahead)
}

/// Returns the windows of a document in order.
pub(crate) fn positions(manifest: &Manifest) -> impl Iterator<Item = WindowPosition> {
    let windows = manifest.shards.iter().enumerate().flat_map(|(shard, entry)| {
        entry.window_bytes.iter().enumerate().map(move |(in_shard, &bytes)| (shard, in_shard, bytes))
    });
    windows.zip(0..).scan(0, |end, ((shard, in_shard, bytes), index)| {
        let start = *end;
        *end += u64::from(bytes);
        Some(WindowPosition { index, shard, in_shard, bytes: start..*end })
    })
}

fn overlaps(position: &WindowPosition, range: &Range<u64>) -> bool {
    position.bytes.start < range.end && range.start < position.bytes.end
}

/// Returns the part of a window that is in the range, in bytes from the window's start. The window and the range must
/// overlap.
fn cut(window: &Range<u64>, range: &Range<u64>) -> Range<usize> {
    let (start, end) = (window.start.max(range.start), window.end.min(range.end));
    (start - window.start) as usize..(end - window.start) as usize
}

/// Decodes a window. Concurrent reads of the same window share one decoding.
async fn decode_once(
    gateway: SharedGateway,
    found: Arc<ResolvedManifest>,
    position: WindowPosition,
) -> Result<(WindowPosition, DecodedWindow), Error> {
    let key = (found.value.id, found.value.version, position.index);
    let work = {
        let (gateway, position) = (Arc::clone(&gateway), position.clone());
        async move { decode(&gateway, &found, position).await }
    };
    let decoded = gateway.window_reads.run(key, work, || Err(Error::panicked())).await?;
    Ok((position, decoded))
}

async fn decode(gateway: &Gateway, found: &ResolvedManifest, position: WindowPosition) -> Result<DecodedWindow, Error> {
    let loaded = LoadedWindow::load(gateway, found, position).await?;
    let manifest = &found.value;
    let window = loaded.window();
    let encoded = EncodedWindow {
        decoder: manifest.cascade.decoder,
        group: &window.group,
        corrections: window.corrections.as_ref(),
        arithmetic: manifest.verification.as_ref().map(|verification| verification.arithmetic.as_str()),
        bytes: loaded.bytes,
        hash: window.hash,
    };
    let text = window::decode(&gateway.router, encoded, &loaded.label).await?;
    let corrections = window.corrections.iter().flat_map(|corrections| corrections.as_slice());
    let corrected = corrections.map(|correction| correction.position).collect();
    Ok(DecodedWindow { text, tokens: window.group.tokens().into(), corrected })
}

/// A window of a document, with its shard, which was read from a cache or from the store.
pub(super) struct LoadedWindow {
    shard: Arc<Shard>,
    in_shard: usize,
    bytes: u64,
    /// Name of the window in errors.
    label: String,
}

impl LoadedWindow {
    /// Loads the shard of a window. Fails with [`Error::DataLoss`] if the shard does not have the window.
    pub(super) async fn load(
        gateway: &Gateway,
        found: &ResolvedManifest,
        position: WindowPosition,
    ) -> Result<Self, Error> {
        let manifest = &found.value;
        let Range { start, end } = position.bytes;
        let in_document = format!("window {} (bytes {start}..{end})", position.index);
        let shard = match gateway.shard(found, position.shard).await {
            Ok(shard) => shard,
            Err(error) => return Err(gateway.shard_error(manifest, &in_document, &error).await),
        };
        let label = format!("document {}, {in_document}", manifest.id);
        let bytes = end - start;
        let window = shard.windows.get(position.in_shard);
        if window.is_none_or(|window| u64::from(window.bytes.end - window.bytes.start) != bytes) {
            return Err(Error::DataLoss(format!("{label}: the windows of its shard differ from the manifest")));
        }
        Ok(Self { shard, in_shard: position.in_shard, bytes, label })
    }

    pub(super) fn window(&self) -> &ShardWindow {
        &self.shard.windows[self.in_shard]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_data::manifest;

    proptest! {
        #[test]
        fn windows_of_a_range_join_to_the_range(
            windows in prop::collection::vec(prop::collection::vec(1u32..50, 1..4), 0..5),
            ends: (u64, u64),
        ) {
            let manifest = manifest(&windows, true);
            let bytes = manifest.bytes();
            let (one, other) = (ends.0 % (bytes + 1), ends.1 % (bytes + 1));
            let range = one.min(other)..one.max(other);
            let overlapping = Vec::from_iter(positions(&manifest).filter(|position| overlaps(position, &range)));
            let joined = overlapping.iter().flat_map(|position| {
                let cut = cut(&position.bytes, &range);
                position.bytes.start + cut.start as u64..position.bytes.start + cut.end as u64
            });
            prop_assert!(joined.eq(range.clone()));
            prop_assert!(overlapping.iter().all(|position| !cut(&position.bytes, &range_of(&overlapping)).is_empty()));
        }
    }

    fn range_of(windows: &[WindowPosition]) -> Range<u64> {
        windows.first().map_or(0, |position| position.bytes.start)
            ..windows.last().map_or(0, |position| position.bytes.end)
    }

    #[test]
    fn windows_are_indexed_through_the_document() {
        let manifest = manifest(&[vec![10, 20], vec![30]], true);
        let positions = Vec::from_iter(positions(&manifest));
        assert_eq!(positions[2], WindowPosition { index: 2, shard: 1, in_shard: 0, bytes: 30..60 });
        assert_eq!(positions.len(), 3);
    }
}
