//! Texts that have to do with a stored document: edited versions of it, and what is appended to it.
//!
//! An edited version is sent whole. Where it is written as its base is, every shard that the edit did not touch is found
//! in the store. Of a document that is appended to nothing is sent, and only its end is decoded: its last shards, whose
//! cuts depend on what follows, are cut anew together with the new text. The hash of the whole goes on from what the
//! manifest keeps of it ([`crate::ingest::hash`]), if that and the decoded end still make the document's id.

use std::sync::Arc;

use bytes::Bytes;
use c3_types::{ByteRange, DocumentId};
use futures::future::Either;
use futures::{Stream, TryStreamExt, stream};

use super::plan::Plan;
use crate::error::Error;
use crate::ingest::chunker;
use crate::ingest::hash::TextHash;
use crate::ingest::text::Begun;
use crate::read::document::document_text;
use crate::state::SharedGateway;
use c3_store::manifest::{Manifest, ShardEntry};

/// A document that text is appended to.
pub(super) struct Continued {
    /// The shards that stay.
    pub(super) kept: Vec<ShardEntry>,
    /// What follows them, and the hash of all.
    pub(super) begun: Begun,
    /// What has to be read of the document before the new text: nothing, or all of it.
    pub(super) again: Option<DocumentId>,
}

impl Continued {
    /// Nothing is there, and all of the text arrives.
    pub(super) fn from_nothing() -> Self {
        Self { kept: Vec::new(), begun: Begun::default(), again: None }
    }

    /// Reads the end of a document, as far as it is needed.
    pub(super) async fn after(gateway: &SharedGateway, plan: &Plan, base: &Manifest) -> Result<Self, Error> {
        let sizes = Vec::from_iter(base.shards.iter().map(ShardEntry::bytes));
        let kept = if stays(base, plan) { chunker::settled(&sizes) } else { 0 };
        let all = || Ok(Self { again: Some(base.id), ..Self::from_nothing() });
        if kept == 0 {
            return all();
        }
        let (bytes, cut) = (base.bytes(), sizes[..kept].iter().sum::<u64>());
        let rest = TextHash::rest_of(bytes);
        let from = cut.min(rest);
        let range = ByteRange::new(Some(from), Some(bytes))?;
        let pieces: Vec<Bytes> = document_text(Arc::clone(gateway), base.id, range).try_collect().await?;
        let end = Bytes::from(pieces.concat());
        let hash = TextHash::resume(&base.subtrees, bytes, &end[(rest - from) as usize..]);
        match hash.filter(|hash| hash.id() == base.id) {
            Some(hash) => {
                let begun = Begun { hash, end: end.slice((cut - from) as usize..) };
                Ok(Self { kept: base.shards[..kept].to_vec(), begun, again: None })
            }
            None => {
                tracing::warn!(id = %base.id, "its hash does not go on from its manifest: all of it is read");
                all()
            }
        }
    }
}

/// The text of a document that is read again, if there is one.
pub(super) fn text_again(
    gateway: &SharedGateway,
    again: Option<DocumentId>,
) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
    match again {
        Some(id) => Either::Left(document_text(Arc::clone(gateway), id, ByteRange::default())),
        None => Either::Right(stream::empty()),
    }
}

/// Whether a document's shards are what the plan would make of them, and its hash can go on.
fn stays(base: &Manifest, plan: &Plan) -> bool {
    let same =
        (&base.cascade, base.codec, &base.verification) == (&plan.cascade, plan.codec, &plan.verification);
    // What came from outside serves no other document.
    same && !base.subtrees.is_empty() && base.shards.iter().all(|shard| shard.import_digest.is_none())
}
