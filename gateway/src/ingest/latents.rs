//! PutLatents: latents that come from outside become a document.
//!
//! Nothing that the caller claims is taken on trust. Every window is decoded here, and only where its hash holds, and
//! all bytes together have the hash that is the document's id, is the document made. Its objects serve no other
//! document: latents that decode right may still be worse than those that our compressors make.
//!
//! What is reported is what was proven: the arithmetic is that of the decoders that were asked, the margin is 0, and a
//! token that has a correction does not count as right without help.

use std::ops::Range;
use std::sync::Arc;

use async_stream::try_stream;
use bytes::Bytes;
use c3_routing::{Error as RoutingError, NodeSelector, ReconstructJob};
use c3_types::limits::SHARD_BYTES_MAX;
use c3_types::{
    Cascade, Document, DocumentId, Invalid, ShardHash, Stage, Window, WindowCorrections, WindowHash,
    WindowLatents,
};
use futures::{Stream, StreamExt, TryStreamExt, pin_mut, stream};

use crate::error::Error;
use crate::ingest::text::Utf8Check;
use crate::metrics::Direction;
use crate::spawn::spawn;
use crate::state::{Gateway, SharedGateway};
use c3_store::manifest::{Manifest, ShardEntry, Verification};
use c3_store::object::version::{Version, now_unix_ms};
use c3_store::shard::{self, Encoded, ShardCorrections, ShardLatents};

/// Windows of a shard that are decoded side by side.
const WINDOWS_AT_ONCE: usize = 4;

/// Checks a window against the document that the caller declared.
fn check_window(document: &Document, window: &Window) -> Result<(), Error> {
    let group = &window.group;
    let (given, declared) = (group.compressor(), document.cascade.compressor);
    if given != declared {
        let served = declared.to_string();
        return Err(RoutingError::WrongModel { stage: Stage::Compressor, given, served }.into());
    }
    if group.codec() != document.codec || (document.ratio != 0 && group.ratio() != document.ratio) {
        let (ratio, codec) = (document.ratio, document.codec);
        let problem = format!("ratio and codec must be the document's: {ratio} and {codec}");
        return Err(Invalid::new("window.group", problem).into());
    }
    if window.bytes.is_empty() || window.bytes.end > document.bytes {
        return Err(Invalid::new("window.end", "a window is not empty and ends within the document").into());
    }
    Ok(())
}

/// Stores a document given as latents.
pub(crate) async fn put_latents<S>(
    gateway: SharedGateway,
    document: Document,
    windows: S,
) -> Result<Document, Error>
where
    S: Stream<Item = Result<Window, Error>> + Send,
{
    let most = gateway.config.document_bytes_max;
    if document.bytes > most {
        let problem = format!("a document may have {most}, this one has {}", document.bytes);
        return Err(Invalid::new("document.bytes", problem).into());
    }
    let served = gateway.router.cascade_of_latents(None, document.cascade.compressor).await?;
    let arithmetic = gateway.router.arithmetic(served.cascade.decoder).await?;
    let put = Arc::new(LatentsPut { gateway, cascade: served.cascade.clone(), arithmetic, document });

    let shards = shards(&put.document, windows)
        .map(|shard| spawn(Arc::clone(&put).write(shard)))
        .buffered(put.gateway.config.shards_in_flight);
    pin_mut!(shards);
    let (mut utf8, mut hasher, mut entries) = (Utf8Check::default(), blake3::Hasher::new(), Vec::new());
    while let Some((entry, text)) = shards.try_next().await? {
        utf8.push(&text)?;
        hasher.update(&text);
        entries.push(entry);
    }
    utf8.finish()?;
    let (id, bytes) =
        (DocumentId::from(hasher.finalize()), entries.iter().map(ShardEntry::bytes).sum::<u64>());
    if (id, bytes) != (put.document.id, put.document.bytes) {
        let problem =
            format!("the windows are {bytes} bytes with id {id}, but {} with id", put.document.bytes);
        return Err(Error::DataLoss(format!("{problem} {} were announced", put.document.id)));
    }
    put.commit(entries).await
}

/// Windows put together to shards.
fn shards<S>(document: &Document, windows: S) -> impl Stream<Item = Result<Vec<Window>, Error>>
where
    S: Stream<Item = Result<Window, Error>>,
{
    try_stream! {
        let mut shard: Vec<Window> = Vec::new();
        let (mut number, mut end) = (0, 0);
        pin_mut!(windows);
        while let Some(window) = windows.try_next().await? {
            check_window(document, &window)?;
            if window.bytes.start != end {
                Err(Invalid::new("window.start", format!("must be {end}, where the window before ends")))?;
            }
            if !shard.is_empty() && window.shard == number + 1 {
                yield std::mem::take(&mut shard);
                number += 1;
            }
            if shard.first().is_some_and(|first| first.group.ratio() != window.group.ratio()) {
                Err(Invalid::new("window.group", "all windows of a shard have one ratio"))?;
            }
            if window.shard != number {
                Err(Invalid::new("window.shard", format!("must be {number}, or one more after its windows")))?;
            }
            end = window.bytes.end;
            let start = shard.first().map_or(window.bytes.start, |first| first.bytes.start);
            if end - start > SHARD_BYTES_MAX as u64 {
                Err(Invalid::new("window.shard", format!("a shard has at most {SHARD_BYTES_MAX} bytes")))?;
            }
            shard.push(window);
        }
        if !shard.is_empty() {
            yield shard;
        }
    }
}

/// A put of latents, under way.
struct LatentsPut {
    gateway: SharedGateway,
    cascade: Cascade,
    arithmetic: String,
    document: Document,
}

impl LatentsPut {
    /// Proves a shard and makes it durable. Returns its line of the manifest, and its text.
    async fn write(
        self: Arc<Self>,
        windows: Result<Vec<Window>, Error>,
    ) -> Result<(ShardEntry, Bytes), Error> {
        let windows = windows?;
        let decoding = Vec::from_iter(windows.iter().map(|window| self.decode(window)));
        let texts = stream::iter(decoding).buffered(WINDOWS_AT_ONCE);
        let text = Bytes::from(texts.try_collect::<Vec<_>>().await?.concat());

        let (latents, corrections) = part(windows);
        let import_digest = Some(shard::digest(&[&latents.payload[..], &corrections.payload].concat()));
        let hash = ShardHash::of(&text);
        let inline = ShardEntry::inline(hash, &latents, Some(&corrections));
        let prefixes = self.manifest(Vec::new()).key_prefixes(&ShardEntry { import_digest, ..inline });
        let store = &self.gateway.store;
        // The key contains a digest of the content, so an existing object is equal or damaged.
        let latents = match store.usable_latents(&prefixes.latents).await? {
            Some(existing) => existing,
            None => store.put_latents(&prefixes.latents, latents).await?,
        };
        let prefix = prefixes.corrections.expect("a verified document has corrections");
        let corrections = match store.usable_corrections(&prefix, &latents).await? {
            Some(existing) => existing,
            None => store.put_corrections(&prefix, corrections).await?,
        };
        let entry = ShardEntry::in_objects(hash, &latents, Some(&corrections));
        Ok((ShardEntry { import_digest, ..entry }, text))
    }

    async fn decode(&self, window: &Window) -> Result<Bytes, Error> {
        let Range { start, end } = window.bytes;
        let selector = NodeSelector {
            stage: Stage::Decoder,
            fingerprint: self.cascade.decoder,
            arithmetic: Some(&self.arithmetic),
            exclude: &[],
        };
        let job = ReconstructJob {
            group: &window.group,
            corrections: window.corrections.as_ref(),
            bytes: end - start,
        };
        let text = self.gateway.router.reconstruct(selector, job).await?.value;
        if WindowHash::of(&text) != window.hash || text.len() as u64 != end - start {
            let problem = "what the decoder writes does not have its hash and size";
            return Err(Error::DataLoss(format!("window of bytes {start}..{end}: {problem}")));
        }
        Ok(text)
    }

    async fn commit(&self, shards: Vec<ShardEntry>) -> Result<Document, Error> {
        let gateway: &Gateway = &self.gateway;
        let manifest = self.manifest(shards);
        let stored = gateway.store.put_manifest(manifest).await?;
        let document = stored.value.document(stored.bytes);
        gateway.metrics.text(Direction::In, document.bytes, document.tokens);
        tracing::info!(id = %stored.value.id, bytes = document.bytes, "stored a document from latents");
        Ok(document)
    }

    fn manifest(&self, shards: Vec<ShardEntry>) -> Manifest {
        Manifest {
            id: self.document.id,
            version: Version::NONE,
            cascade: self.cascade.clone(),
            ratio: Manifest::ratio_of(&shards, self.document.ratio),
            codec: self.document.codec,
            verification: Some(Verification { margin: 0.0, arithmetic: self.arithmetic.clone() }),
            created_unix_ms: now_unix_ms(),
            expires_unix_ms: None,
            shards,
            // What is appended to it cannot be kept with it anyway: its objects serve no other document.
            subtrees: Vec::new(),
        }
    }
}

/// A shard's windows as its two objects hold them.
fn part(windows: Vec<Window>) -> (Encoded<ShardLatents>, Encoded<ShardCorrections>) {
    let start = windows.first().map_or(0, |first| first.bytes.start);
    // Within a shard, so within 32 bits.
    let in_shard = |bytes: &Range<u64>| (bytes.start - start) as u32..(bytes.end - start) as u32;
    let (mut latents, mut corrections) = (Vec::new(), Vec::new());
    for window in windows {
        let of_window = window.corrections.unwrap_or_default();
        let tokens = window.group.tokens();
        let right = tokens - of_window.as_slice().len() as u32;
        corrections.push(WindowCorrections { tokens, right, corrections: of_window });
        latents.push(WindowLatents {
            bytes: in_shard(&window.bytes),
            group: window.group,
            hash: window.hash,
        });
    }
    let latents = ShardLatents { windows: latents }.into_encoded();
    let corrections =
        ShardCorrections { latents: shard::digest(&latents.payload), windows: corrections }.into_encoded();
    (latents, corrections)
}

#[cfg(test)]
mod tests {
    use c3_types::Fingerprint;

    use super::*;
    use crate::test_data::windows as shard_windows;

    fn document() -> Document {
        Document { bytes: 9 * 60, ..crate::test_data::manifest(&[], true).document(0) }
    }

    /// Windows of 60 bytes, in shards of these numbers.
    fn windows(shards: &[u32]) -> Vec<Window> {
        let windows = shard_windows(&vec![20; shards.len()]);
        let window = |(window, &shard): (WindowLatents, &u32)| Window {
            shard,
            bytes: window.bytes.start.into()..window.bytes.end.into(),
            group: window.group,
            hash: window.hash,
            corrections: None,
        };
        windows.into_iter().zip(shards).map(window).collect()
    }

    async fn put_together(windows: Vec<Window>) -> Result<Vec<usize>, Error> {
        let (document, windows) = (document(), stream::iter(windows.into_iter().map(Ok)));
        shards(&document, windows).map_ok(|shard| shard.len()).try_collect().await
    }

    #[tokio::test]
    async fn windows_become_shards() {
        assert_eq!(put_together(windows(&[0, 0, 1, 2, 2, 2])).await.unwrap(), [2, 1, 3]);
        assert!(put_together(Vec::new()).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_does_not_follow_is_refused_by_field() {
        type Change = fn(&mut Vec<Window>);
        let changes: [(&str, Change); 5] = [
            ("window.shard", |w| w[0].shard = 1),
            ("window.shard", |w| w[3].shard = 3),
            ("window.shard", |w| w[2].shard = 0),
            ("window.start", |w| drop(w.remove(1))),
            ("window.end", |w| w[1].bytes.end = 541),
        ];
        for (field, change) in changes {
            let mut windows = windows(&[0, 1, 1, 2]);
            change(&mut windows);
            match put_together(windows).await {
                Err(Error::Invalid(invalid)) => assert_eq!(invalid.field, field),
                other => panic!("{field}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn latents_of_another_model_are_refused() {
        let mut document = document();
        document.cascade.compressor = Fingerprint::of(b"other");
        let window = windows(&[0]).remove(0);
        let error = check_window(&document, &window).unwrap_err();
        assert!(matches!(error, Error::Routing(RoutingError::WrongModel { .. })), "{error}");
    }
}
