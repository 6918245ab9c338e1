//! Appending to a stored document without sending or decoding all of it.
//!
//! Only the end of the document is decoded: its last shards, whose cuts depend on what follows, are cut again together
//! with the new text. The hash of the whole text resumes from the subtrees in the manifest ([`super::hash`]), provided
//! that these and the decoded end still hash to the document's id.
//!
//! An *edited* version needs none of this: it is sent whole, and its unchanged shards are found in the store.

use std::sync::Arc;

use bytes::Bytes;
use c3_store::manifest::{Manifest, ShardEntry};
use c3_types::{ByteRange, DocumentId};
use futures::future::Either;
use futures::{Stream, TryStreamExt, stream};

use super::chunker;
use super::hash::TextHash;
use super::plan::WritePlan;
use super::text::TextPrefix;
use crate::error::Error;
use crate::read::document::document_text;
use crate::state::SharedGateway;

/// Starting point of a write that appends to a base document. The default has no base.
#[derive(Default)]
pub(super) struct Append {
    /// Shards of the base that the new document keeps.
    pub(super) kept: Vec<ShardEntry>,
    /// Text of the base, up to the appended text.
    pub(super) prefix: TextPrefix,
    /// Base whose whole text has to be decoded and written again before the appended text.
    pub(super) reread: Option<DocumentId>,
}

impl Append {
    /// Decodes as much of the end of `base` as is needed to append to it.
    pub(super) async fn to(base: &Manifest, plan: &WritePlan, gateway: &SharedGateway) -> Result<Self, Error> {
        let sizes = Vec::from_iter(base.shards.iter().map(ShardEntry::bytes));
        let kept = if can_keep_shards(base, plan) { chunker::settled_count(&sizes) } else { 0 };
        let reread = || Ok(Self { reread: Some(base.id), ..Self::default() });
        if kept == 0 {
            return reread();
        }
        let (bytes, cut) = (base.bytes(), sizes[..kept].iter().sum::<u64>());
        let tail = TextHash::tail_start(bytes);
        let start = cut.min(tail);
        let range = ByteRange::new(Some(start), Some(bytes))?;
        let pieces: Vec<Bytes> = document_text(Arc::clone(gateway), base.id, range).try_collect().await?;
        let end = Bytes::from(pieces.concat());
        let hash = TextHash::resume(&base.subtrees, bytes, &end[(tail - start) as usize..]);
        match hash.filter(|hash| hash.id() == base.id) {
            Some(hash) => {
                let prefix = TextPrefix { hash, uncut: end.slice((cut - start) as usize..) };
                Ok(Self { kept: base.shards[..kept].to_vec(), prefix, reread: None })
            }
            None => {
                tracing::warn!(id = %base.id, "subtrees in the manifest do not match the id, rereading the text");
                reread()
            }
        }
    }
}

/// Streams the text of a document that has to be written again, if any.
pub(super) fn reread_text(
    gateway: &SharedGateway,
    id: Option<DocumentId>,
) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
    match id {
        Some(id) => Either::Left(document_text(Arc::clone(gateway), id, ByteRange::default())),
        None => Either::Right(stream::empty()),
    }
}

/// Returns whether the plan would write the same shards, and the hash of the text can be resumed.
fn can_keep_shards(base: &Manifest, plan: &WritePlan) -> bool {
    // Imported shards must not serve another document.
    plan.has_settings_of(base)
        && !base.subtrees.is_empty()
        && base.shards.iter().all(|shard| shard.import_digest.is_none())
}
