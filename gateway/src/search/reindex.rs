//! Adds sketches to a stored document that has none, so that search finds it: it was stored by an earlier version, or with
//! search turned off. The text is decoded; latents and corrections stay as they are.

use std::sync::Arc;

use bytes::Bytes;
use c3_routing::RequestClass;
use c3_store::Error as StoreError;
use c3_store::manifest::{Manifest, ShardEntry};
use c3_store::shard::ShardLatents;
use c3_types::{ByteRange, DocumentId};
use futures::{StreamExt, TryStreamExt, stream};

use crate::error::Error;
use crate::ingest::document::replace;
use crate::read::document::document_text;
use crate::sketches::{SketchKey, sketches};
use crate::spawn::spawn;
use crate::state::SharedGateway;

/// Shards of a document that are decoded concurrently. Few, so that readers and writers are not slowed much.
const SHARDS_IN_FLIGHT: usize = 2;

/// Result of a reindexing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reindexed {
    pub(crate) id: DocumentId,
    /// Windows that got a sketch; 0: all had one.
    pub(crate) windows: u64,
}

/// Adds the missing sketches of a document, and lets search find it. `reference` is an id, a unique prefix of an id, or a
/// name. Fails if the document was stored without verification.
pub(crate) async fn reindex(gateway: SharedGateway, reference: String) -> Result<Reindexed, Error> {
    gateway.admit(RequestClass::Write)?;
    let Some(key) = gateway.search.key(&gateway.store).await? else {
        return Err(search_is_off());
    };
    let found = gateway.find(&reference).await?;
    let old = &found.value;
    if old.verification.is_none() {
        return Err(unverified(old.id));
    }
    let document = Manifest { shards: Vec::new(), ..old.clone() };
    let starts = old.shards.iter().scan(0, |end, entry| {
        let start = *end;
        *end += entry.bytes();
        Some((start, entry.clone()))
    });
    let shards = stream::iter(Vec::from_iter(starts)).map(|(start, entry)| {
        let (gateway, document, key) = (Arc::clone(&gateway), document.clone(), key.clone());
        let shard = ShardReindex { gateway, document, key, start, entry };
        spawn(async move { if shard.is_done().await? { Ok((shard.entry, 0)) } else { shard.run().await } })
    });
    let shards: Vec<(ShardEntry, u64)> = shards.buffered(SHARDS_IN_FLIGHT).try_collect().await?;
    let windows = shards.iter().map(|(_, added)| added).sum();
    if windows > 0 || !old.is_searchable {
        let shards = shards.into_iter().map(|(entry, _)| entry).collect();
        replace(&gateway, old, Manifest { shards, is_searchable: true, ..old.clone() }).await?;
    }
    gateway.search.written(old.id);
    Ok(Reindexed { id: old.id, windows })
}

/// Returns the error for a document without verification, which search cannot find.
pub(super) fn unverified(id: DocumentId) -> Error {
    Error::Unsupported(format!("document {id} was stored without verification: run `c3 recode` first"))
}

/// Returns the error for a gateway without search.
pub(super) fn search_is_off() -> Error {
    Error::Unsupported("search is turned off on this gateway: set --search-memory".to_owned())
}

/// Reindexing of a shard.
pub(super) struct ShardReindex {
    pub(super) gateway: SharedGateway,
    /// Manifest of the document. Its shards are not used.
    pub(super) document: Manifest,
    pub(super) key: SketchKey,
    /// Offset of the shard in the document.
    pub(super) start: u64,
    pub(super) entry: ShardEntry,
}

impl ShardReindex {
    /// Returns whether all windows of the shard have sketches. Reads the shard's corrections, but decodes nothing.
    pub(super) async fn is_done(&self) -> Result<bool, Error> {
        let alone = Manifest { shards: vec![self.entry.clone()], ..self.document.clone() };
        match self.gateway.store.sketches(&alone, self.key.secret).await {
            Ok(sketches) => Ok(sketches.missing == 0),
            Err(error) => Err(self.error(&error).await),
        }
    }

    /// Decodes the shard and stores sketches of its windows. Returns the entry of the shard with them, and the number
    /// of windows that have one.
    pub(super) async fn run(&self) -> Result<(ShardEntry, u64), Error> {
        let range = ByteRange::new(Some(self.start), Some(self.start + self.entry.bytes()))?;
        let pieces = document_text(Arc::clone(&self.gateway), self.document.id, range);
        let text = pieces.try_collect::<Vec<Bytes>>().await?.concat();
        // An imported shard may divide a character. Search cannot find its windows.
        let Ok(text) = std::str::from_utf8(&text) else { return Ok((self.entry.clone(), 0)) };
        let mut added = 0;
        let make = |latents: &ShardLatents| {
            let made = sketches(text, latents, &self.key);
            added = made.windows.len() as u64;
            made
        };
        match self.gateway.store.with_sketches(&self.document, &self.entry, make).await {
            Ok(entry) => Ok((entry, added)),
            Err(error) => Err(self.error(&error).await),
        }
    }

    async fn error(&self, error: &StoreError) -> Error {
        self.gateway.shard_error(&self.document, "a shard", error).await
    }
}
