//! GetText: a document's bytes, or a range of them.
//!
//! The manifest says which windows the range touches; only those are loaded and decoded, several ahead of the caller,
//! and leave in order, each once its hash held. Of a whole document the last window leaves only when all bytes together
//! have the hash that is its id.

use std::ops::Range;
use std::sync::Arc;

use async_stream::try_stream;
use bytes::Bytes;
use c3_proto::{ByteRange, DocumentId, pb};
use futures::{Stream, StreamExt, TryStreamExt, pin_mut, stream};

use super::window::{self, Sealed};
use crate::cache::Found;
use crate::error::Failure;
use crate::flight::SingleFlight;
use crate::gateway::{Gateway, SharedGateway};
use crate::metrics::Direction;
use crate::store::manifest::Manifest;
use crate::store::stamp::Stamp;
use crate::task;

/// What the caller of a get is told.
#[derive(Debug)]
pub(crate) enum GetEvent {
    /// First: the document and the bytes that follow.
    Header { document: Box<pb::Document>, range: Range<u64> },
    /// The next bytes.
    Text(Bytes),
}

/// A window of a document.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    /// Number of the window in the document.
    number: u64,
    /// Number of its shard in the document.
    shard: usize,
    /// Number of the window in its shard.
    in_shard: usize,
    /// Its bytes in the document.
    bytes: Range<u64>,
}

/// Windows being decoded, by document, version of its manifest, and number.
pub(crate) type Reads = SingleFlight<(DocumentId, Stamp, u64), Result<Decoded, Failure>>;

/// A window's text.
#[derive(Clone, Debug)]
pub(crate) struct Decoded {
    text: Bytes,
    tokens: u64,
}

/// Streams the text of a document, or a range of it.
pub(crate) fn get_text(
    gateway: SharedGateway,
    id: String,
    range: ByteRange,
) -> impl Stream<Item = Result<GetEvent, Failure>> + Send {
    try_stream! {
        let found = gateway.find(&id).await?;
        let manifest = &found.value;
        let range = range.within(manifest.bytes())?;
        yield GetEvent::Header { document: Box::new(manifest.document(found.bytes)), range: range.clone() };

        let places = Vec::from_iter(places(manifest).filter(|place| touches(place, &range)));
        let last = places.len().saturating_sub(1);
        let decoded = stream::iter(places)
            .map(|place| {
                let (gateway, found) = (Arc::clone(&gateway), Arc::clone(&found));
                task::begin(async move { once(gateway, found, place).await })
            })
            .buffered(gateway.config.look_ahead)
            .enumerate();
        pin_mut!(decoded);

        let mut whole = (range == (0..manifest.bytes())).then(blake3::Hasher::new);
        while let Some((i, window)) = decoded.next().await {
            let (place, Decoded { text, tokens }) = window?;
            if let Some(hasher) = &mut whole {
                hasher.update(&text);
                if i == last && hasher.finalize().as_bytes() != manifest.id.as_bytes() {
                    let problem = "its windows are right, but together they are another text";
                    Err(Failure::DataLoss(format!("document {}: {problem}", manifest.id)))?;
                }
            }
            let wanted = cut(&place.bytes, &range);
            gateway.metrics.text(Direction::Out, wanted.len() as u64, tokens);
            yield GetEvent::Text(text.slice(wanted));
        }
    }
}

/// The text of a document, or a range of it, alone.
pub(crate) fn document_text(
    gateway: SharedGateway,
    id: DocumentId,
    range: ByteRange,
) -> impl Stream<Item = Result<Bytes, Failure>> + Send {
    get_text(gateway, id.to_string(), range).try_filter_map(async |event| match event {
        GetEvent::Header { .. } => Ok(None),
        GetEvent::Text(text) => Ok(Some(text)),
    })
}

/// The windows of a document, in order.
fn places(manifest: &Manifest) -> impl Iterator<Item = Place> {
    let windows = manifest.shards.iter().enumerate().flat_map(|(shard, entry)| {
        entry.window_bytes.iter().enumerate().map(move |(in_shard, &bytes)| (shard, in_shard, bytes))
    });
    windows.zip(0..).scan(0, |end, ((shard, in_shard, bytes), number)| {
        let start = *end;
        *end += u64::from(bytes);
        Some(Place { number, shard, in_shard, bytes: start..*end })
    })
}

fn touches(place: &Place, range: &Range<u64>) -> bool {
    place.bytes.start < range.end && range.start < place.bytes.end
}

/// The part of a window that is in range, counted from the window's start.
fn cut(window: &Range<u64>, range: &Range<u64>) -> Range<usize> {
    let (start, end) = (window.start.max(range.start), window.end.min(range.end));
    (start - window.start) as usize..(end - window.start) as usize
}

/// A window's text, decoded once for all who read it at the same time.
async fn once(gateway: SharedGateway, found: Arc<Found>, place: Place) -> Result<(Place, Decoded), Failure> {
    let key = (found.value.id, found.value.version, place.number);
    let work = {
        let (gateway, place) = (Arc::clone(&gateway), place.clone());
        async move { decode(&gateway, &found, place).await }
    };
    let decoded = gateway.reads.run(key, work, || Err(Failure::gone())).await?;
    Ok((place, decoded))
}

async fn decode(gateway: &Gateway, found: &Found, place: Place) -> Result<Decoded, Failure> {
    let manifest = &found.value;
    let Range { start, end } = place.bytes;
    let in_document = format!("window {} (bytes {start}..{end})", place.number);
    let shard = gateway.shard(found, place.shard).await;
    let shard = shard.map_err(|error| Failure::of_document(manifest.id, &in_document, &error))?;

    let what = format!("document {}, {in_document}", manifest.id);
    let window = shard.windows.get(place.in_shard);
    let window = window.filter(|window| u64::from(window.bytes.end - window.bytes.start) == end - start);
    let window = window.ok_or_else(|| {
        Failure::DataLoss(format!("{what}: its shard holds other windows than the manifest says"))
    })?;
    let sealed = Sealed {
        decoder: manifest.cascade.decoder,
        group: &window.group,
        corrections: window.corrections.as_ref(),
        arithmetic: manifest.verification.as_ref().map(|how| how.arithmetic.as_str()),
        bytes: end - start,
        hash: window.hash,
    };
    let text = window::decode(&gateway.nodes, sealed, &what).await?;
    Ok(Decoded { text, tokens: window.group.tokens().into() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::manifest::tests::manifest;

    proptest! {
        #[test]
        fn the_windows_of_a_range_join_to_it(
            windows in prop::collection::vec(prop::collection::vec(1u32..50, 1..4), 0..5),
            ends: (u64, u64),
        ) {
            let manifest = manifest(&windows, true);
            let bytes = manifest.bytes();
            let (one, other) = (ends.0 % (bytes + 1), ends.1 % (bytes + 1));
            let range = one.min(other)..one.max(other);
            let touched = Vec::from_iter(places(&manifest).filter(|place| touches(place, &range)));
            let joined = touched.iter().flat_map(|place| {
                let cut = cut(&place.bytes, &range);
                place.bytes.start + cut.start as u64..place.bytes.start + cut.end as u64
            });
            prop_assert!(joined.eq(range.clone()));
            prop_assert!(touched.iter().all(|place| !cut(&place.bytes, &range_of(&touched)).is_empty()));
        }
    }

    fn range_of(touched: &[Place]) -> Range<u64> {
        touched.first().map_or(0, |place| place.bytes.start)
            ..touched.last().map_or(0, |place| place.bytes.end)
    }

    #[test]
    fn windows_are_numbered_through_the_document() {
        let manifest = manifest(&[vec![10, 20], vec![30]], true);
        let places = Vec::from_iter(places(&manifest));
        assert_eq!(places[2], Place { number: 2, shard: 1, in_shard: 0, bytes: 30..60 });
        assert_eq!(places.len(), 3);
    }
}
