//! PutLatents: imports latents that were made elsewhere, as a document.
//!
//! Nothing that the caller declares is trusted. Every window is decoded and must match its hash, and the whole text
//! must match the document's id. A put never reuses imported objects: their latents may decode correctly and still be
//! worse than those of our compressors.
//!
//! The stored verification contains only what the import proved: the arithmetic (exact order and precision of
//! operations) of the decoders that were used, and a margin of 0. A token with a correction is counted as wrong.

use std::ops::Range;
use std::sync::Arc;

use async_stream::try_stream;
use bytes::Bytes;
use c3_routing::{Error as RoutingError, NodeSelector, ReconstructJob};
use c3_store::manifest::{Manifest, ShardEntry, Verification};
use c3_store::object::version::{Version, now_unix_ms};
use c3_store::shard::{self, Encoded, ShardCorrections, ShardLatents, Sketches};
use c3_types::limits::SHARD_BYTES_MAX;
use c3_types::{
    Cascade, Document, DocumentId, Invalid, ShardHash, Stage, Window, WindowCorrections, WindowHash, WindowLatents,
};
use futures::{Stream, StreamExt, TryStreamExt, pin_mut, stream};

use super::text::Utf8Check;
use crate::error::Error;
use crate::metrics::Direction;
use crate::sketches::{SketchKey, sketches};
use crate::spawn::spawn;
use crate::state::SharedGateway;

/// Maximum number of windows of one shard that are decoded concurrently.
const WINDOWS_IN_FLIGHT: usize = 4;

/// Stores a document from its latents. Fails unless the latents decode to the hashes, size and id that the caller
/// declared.
pub(crate) async fn put_latents<S>(gateway: SharedGateway, document: Document, windows: S) -> Result<Document, Error>
where
    S: Stream<Item = Result<Window, Error>> + Send,
{
    gateway.check_stored()?;
    let max = gateway.config.document_size_max.0;
    if document.bytes > max {
        return Err(Error::TooLarge { bytes: document.bytes, max });
    }
    gateway.router.wait_until_ready(&[Stage::Decoder]).await?;
    let served = gateway.router.cascade_of_latents(None, document.cascade.compressor).await?;
    let arithmetic = gateway.router.arithmetic(served.cascade.decoder).await?;
    let sketch_key = gateway.search.key_or_none(&gateway.store).await?;
    let cascade = served.cascade.clone();
    let import = Arc::new(LatentsImport { gateway, cascade, arithmetic, declared: document, sketch_key });

    let shards = shards(&import.declared, windows)
        .map(|shard| spawn(Arc::clone(&import).write(shard)))
        .buffered(import.gateway.shards_in_flight());
    pin_mut!(shards);
    let (mut utf8, mut hasher, mut entries) = (Utf8Check::default(), blake3::Hasher::new(), Vec::new());
    while let Some((entry, text)) = shards.try_next().await? {
        utf8.push(&text)?;
        hasher.update(&text);
        entries.push(entry);
    }
    utf8.finish()?;
    let id = DocumentId::from(hasher.finalize());
    let bytes = entries.iter().map(ShardEntry::bytes).sum::<u64>();
    let declared = &import.declared;
    if (id, bytes) != (declared.id, declared.bytes) {
        return Err(Error::DataLoss(format!(
            "the windows decode to {bytes} bytes with id {id}, but {} bytes with id {} were declared",
            declared.bytes, declared.id
        )));
    }
    import.commit(entries).await
}

/// Groups windows into shards, and checks order, sizes and settings against the declared document.
fn shards<S>(declared: &Document, windows: S) -> impl Stream<Item = Result<Vec<Window>, Error>>
where
    S: Stream<Item = Result<Window, Error>>,
{
    try_stream! {
        let mut shard: Vec<Window> = Vec::new();
        let (mut number, mut end) = (0, 0);
        pin_mut!(windows);
        while let Some(window) = windows.try_next().await? {
            check_window(declared, &window)?;
            if window.bytes.start != end {
                Err(Invalid::new("window.start", format!("must be {end}, the end of the previous window")))?;
            }
            if !shard.is_empty() && window.shard == number + 1 {
                yield std::mem::take(&mut shard);
                number += 1;
            }
            if shard.first().is_some_and(|first| first.group.ratio() != window.group.ratio()) {
                Err(Invalid::new("window.group", "all windows of a shard must have the same ratio"))?;
            }
            if window.shard != number {
                let problem = format!("must be {number}, or the next number to begin another shard");
                Err(Invalid::new("window.shard", problem))?;
            }
            end = window.bytes.end;
            let start = shard.first().map_or(window.bytes.start, |first| first.bytes.start);
            if end - start > SHARD_BYTES_MAX as u64 {
                Err(Invalid::new("window.shard", format!("the shard must have at most {SHARD_BYTES_MAX} bytes")))?;
            }
            shard.push(window);
        }
        if !shard.is_empty() {
            yield shard;
        }
    }
}

/// Checks the compressor, codec, ratio and byte range of a window against the declared document.
fn check_window(declared: &Document, window: &Window) -> Result<(), Error> {
    let group = &window.group;
    let (given, served) = (group.compressor(), declared.cascade.compressor);
    if given != served {
        let served = served.to_string();
        return Err(RoutingError::WrongModel { stage: Stage::Compressor, given, served }.into());
    }
    if group.codec() != declared.codec || (declared.ratio != 0 && group.ratio() != declared.ratio) {
        let (ratio, codec) = (declared.ratio, declared.codec);
        let problem = format!("must have the document's ratio and codec: {ratio} and {codec}");
        return Err(Invalid::new("window.group", problem).into());
    }
    if window.bytes.is_empty() || window.bytes.end > declared.bytes {
        let problem = "must be after the window's start and within the document";
        return Err(Invalid::new("window.end", problem).into());
    }
    Ok(())
}

/// Import in progress.
struct LatentsImport {
    gateway: SharedGateway,
    cascade: Cascade,
    /// Arithmetic of the decoders that check the latents.
    arithmetic: String,
    declared: Document,
    /// Key of the sketches for search; `None` if search is off.
    sketch_key: Option<SketchKey>,
}

impl LatentsImport {
    /// Checks a shard by decoding it, and makes it durable. Returns the shard's entry for the manifest, and its text.
    async fn write(self: Arc<Self>, windows: Result<Vec<Window>, Error>) -> Result<(ShardEntry, Bytes), Error> {
        let windows = windows?;
        let decoding = Vec::from_iter(windows.iter().map(|window| self.decode(window)));
        let texts = stream::iter(decoding).buffered(WINDOWS_IN_FLIGHT);
        let text = Bytes::from(texts.try_collect::<Vec<_>>().await?.concat());

        let (latents, corrections) = self.encode(windows, &text);
        let import_digest = Some(shard::digest(&[&latents.payload[..], &corrections.payload].concat()));
        let hash = ShardHash::of(&text);
        let inline = ShardEntry::inline(hash, &latents, Some(&corrections));
        let prefixes = self.manifest(Vec::new()).key_prefixes(&ShardEntry { import_digest, ..inline });
        let store = &self.gateway.store;
        // The key contains a digest of the content, so an intact existing object is identical.
        let latents = match store.usable_latents(&prefixes.latents).await? {
            Some(existing) => existing,
            None => store.put_latents(&prefixes.latents, latents).await?,
        };
        let prefix = prefixes.corrections.expect("a verified document has corrections");
        let corrections = match store.usable_corrections(&prefix, &latents).await? {
            Some(existing) => existing,
            None => store.put_corrections(&prefix, corrections).await?,
        };
        let entry = ShardEntry::in_objects(hash, &latents, Some(&corrections)).with_newlines(&text);
        Ok((ShardEntry { import_digest, ..entry }, text))
    }

    /// Decodes a window. Fails if its text does not have the declared hash and size.
    async fn decode(&self, window: &Window) -> Result<Bytes, Error> {
        let Range { start, end } = window.bytes;
        let selector = NodeSelector {
            stage: Stage::Decoder,
            fingerprint: self.cascade.decoder,
            arithmetic: Some(&self.arithmetic),
            exclude: &[],
        };
        let job = ReconstructJob { group: &window.group, corrections: window.corrections.as_ref(), bytes: end - start };
        let text = self.gateway.router.reconstruct(selector, job).await?.value;
        if WindowHash::of(&text) != window.hash || text.len() as u64 != end - start {
            let problem = "the decoded text does not match the declared hash and size";
            return Err(Error::DataLoss(format!("window of bytes {start}..{end}: {problem}")));
        }
        Ok(text)
    }

    /// Encodes the windows of a shard with this text as its two objects. A window without corrections gets an empty list.
    fn encode(&self, windows: Vec<Window>, text: &[u8]) -> (Encoded<ShardLatents>, Encoded<ShardCorrections>) {
        let start = windows.first().map_or(0, |first| first.bytes.start);
        // The size of a shard fits 32 bits.
        let in_shard = |bytes: &Range<u64>| (bytes.start - start) as u32..(bytes.end - start) as u32;
        let (mut latents, mut corrections) = (Vec::new(), Vec::new());
        for window in windows {
            let of_window = window.corrections.unwrap_or_default();
            let tokens = window.group.tokens();
            let right = tokens - of_window.as_slice().len() as u32;
            corrections.push(WindowCorrections { tokens, right, corrections: of_window });
            let bytes = in_shard(&window.bytes);
            latents.push(WindowLatents { bytes, group: window.group, hash: window.hash });
        }
        let latents = ShardLatents { windows: latents }.into_encoded();
        // The windows of other programs may divide a character. Search does not find such shards.
        let sketches = match (&self.sketch_key, std::str::from_utf8(text)) {
            (Some(key), Ok(text)) => sketches(text, &latents.value, key),
            _ => Sketches::default(),
        };
        let digest = shard::digest(&latents.payload);
        let corrections = ShardCorrections { latents: digest, windows: corrections, sketches }.into_encoded();
        (latents, corrections)
    }

    async fn commit(&self, shards: Vec<ShardEntry>) -> Result<Document, Error> {
        let stored = self.gateway.store.put_manifest(self.manifest(shards)).await?;
        let document = stored.value.document(stored.bytes);
        self.gateway.count_stored(document.stored_bytes);
        self.gateway.count_text(Direction::In, document.bytes, document.tokens);
        self.gateway.search.written(document.id);
        tracing::info!(id = %document.id, bytes = document.bytes, "stored a document from latents");
        Ok(document)
    }

    fn manifest(&self, shards: Vec<ShardEntry>) -> Manifest {
        Manifest {
            id: self.declared.id,
            version: Version::NONE,
            cascade: self.cascade.clone(),
            ratio: Manifest::ratio_of(&shards, self.declared.ratio),
            codec: self.declared.codec,
            verification: Some(Verification { margin: 0.0, arithmetic: self.arithmetic.clone() }),
            created_unix_ms: now_unix_ms(),
            is_searchable: true,
            expires_unix_ms: None,
            shards,
            // Only an append that keeps shards uses subtrees. Imported shards are never kept: they must not become part
            // of other documents.
            subtrees: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use c3_types::Fingerprint;

    use super::*;
    use crate::test_data::windows as shard_windows;

    fn document() -> Document {
        Document { bytes: 9 * 60, ..crate::test_data::manifest(&[], true).document(0) }
    }

    /// Returns windows of 60 bytes. `shards` lists the shard of each window.
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

    async fn grouped(windows: Vec<Window>) -> Result<Vec<usize>, Error> {
        let (document, windows) = (document(), stream::iter(windows.into_iter().map(Ok)));
        shards(&document, windows).map_ok(|shard| shard.len()).try_collect().await
    }

    #[tokio::test]
    async fn windows_are_grouped_into_shards() {
        assert_eq!(grouped(windows(&[0, 0, 1, 2, 2, 2])).await.unwrap(), [2, 1, 3]);
        assert!(grouped(Vec::new()).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn misplaced_windows_are_refused_by_field() {
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
            match grouped(windows).await {
                Err(Error::Invalid(invalid)) => assert_eq!(invalid.field, field),
                other => panic!("{field}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn latents_of_another_compressor_are_refused() {
        let mut document = document();
        document.cascade.compressor = Fingerprint::of(b"other");
        let window = windows(&[0]).remove(0);
        let error = check_window(&document, &window).unwrap_err();
        assert!(matches!(error, Error::Routing(RoutingError::WrongModel { .. })), "{error}");
    }
}
