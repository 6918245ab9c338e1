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

/// Shards of a document that are decoded concurrently. Few, because nobody waits for the result.
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
        return Err(Error::Unsupported("search is turned off on this gateway: set --search-memory".to_owned()));
    };
    let found = gateway.find(&reference).await?;
    let old = &found.value;
    if old.verification.is_none() {
        let problem = format!("document {} was stored without verification: run `c3 recode` first", old.id);
        return Err(Error::Unsupported(problem));
    }
    let starts = old.shards.iter().scan(0, |end, entry| {
        let start = *end;
        *end += entry.bytes();
        Some((start, entry.clone()))
    });
    let shards = stream::iter(Vec::from_iter(starts)).map(|(start, entry)| {
        let shard = ShardReindex { gateway: Arc::clone(&gateway), old: old.clone(), key: key.clone(), start };
        spawn(async move { shard.run(entry).await })
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

/// Reindexing of a shard.
struct ShardReindex {
    gateway: SharedGateway,
    old: Manifest,
    key: SketchKey,
    /// Offset of the shard in the document.
    start: u64,
}

impl ShardReindex {
    /// Returns the entry of the shard with sketches, and the number of windows that got one.
    async fn run(&self, entry: ShardEntry) -> Result<(ShardEntry, u64), Error> {
        let store = &self.gateway.store;
        let alone = Manifest { shards: vec![entry.clone()], ..self.old.clone() };
        if store.sketches(&alone, self.key.secret).await.map_err(|error| self.error(&error))?.missing == 0 {
            return Ok((entry, 0));
        }
        let range = ByteRange::new(Some(self.start), Some(self.start + entry.bytes()))?;
        let pieces = document_text(Arc::clone(&self.gateway), self.old.id, range);
        let text = pieces.try_collect::<Vec<Bytes>>().await?.concat();
        // An imported shard may divide a character. Search cannot find its windows.
        let Ok(text) = std::str::from_utf8(&text) else { return Ok((entry, 0)) };
        let mut added = 0;
        let make = |latents: &ShardLatents| {
            let made = sketches(text, latents, &self.key);
            added = made.windows.len() as u64;
            made
        };
        let entry = store.with_sketches(&self.old, &entry, make).await.map_err(|error| self.error(&error))?;
        Ok((entry, added))
    }

    fn error(&self, error: &StoreError) -> Error {
        match error {
            StoreError::Missing { .. } => Error::Changed(self.old.id),
            error => Error::of_document(self.old.id, "a shard", error),
        }
    }
}
