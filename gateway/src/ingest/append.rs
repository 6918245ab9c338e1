//! Appends to a stored document. The caller sends only the new text, and usually only the document's end is decoded.
//!
//! The cuts of the last shards depend on the text that follows, so these shards are decoded and cut again together with
//! the new text. The hash of the whole text is resumed from the subtrees in the manifest ([`super::hash`]). The whole
//! document is decoded and written again if no shard can be kept, or if subtrees and decoded end do not match its id.
//!
//! This module is not used for an *edited* version of a document: the caller sends the whole new text, and the write
//! reuses the unchanged shards from the store.

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

/// Starting point of a write that appends to a base document. The default is a write without a base.
#[derive(Default)]
pub(super) struct Append {
    /// Shards of the base that the new document keeps.
    pub(super) kept: Vec<ShardEntry>,
    /// Hash of the base's text, and the end of the base, which is cut again. Empty if the base is reread.
    pub(super) prefix: TextPrefix,
    /// Base whose whole text must be decoded and written again before the appended text; `None` if shards are kept.
    pub(super) reread: Option<DocumentId>,
}

impl Append {
    /// Decodes the end of `base` that must be cut or hashed again. If no shard can be kept, or the hash cannot be
    /// resumed, sets [`Self::reread`] instead.
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

/// Streams the whole text of the document that must be written again; empty for `None`.
pub(super) fn reread_text(
    gateway: &SharedGateway,
    id: Option<DocumentId>,
) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
    match id {
        Some(id) => Either::Left(document_text(Arc::clone(gateway), id, ByteRange::default())),
        None => Either::Right(stream::empty()),
    }
}

/// Returns whether shards of `base` can be kept: the plan has the settings of `base`, except for ratios, the manifest
/// contains subtrees to resume the hash, and no shard was imported.
fn can_keep_shards(base: &Manifest, plan: &WritePlan) -> bool {
    // Imported shards must not become part of another document.
    plan.has_settings_of(base)
        && !base.subtrees.is_empty()
        && base.shards.iter().all(|shard| shard.import_digest.is_none())
}
