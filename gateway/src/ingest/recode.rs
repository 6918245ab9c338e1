//! Recode: a stored document is written anew with other options.
//!
//! Its text is decoded and goes the way of every text that is stored: compressed, verified, made durable. Then the
//! manifest is switched, if it is still the one that was read. Until then the document is as it was, whatever happens;
//! one that was deleted meanwhile stays deleted.
//!
//! Latents are compressed anew also where only the codec differs. The true tokens, which a verification needs, are
//! nowhere stored, so the text has to be decoded in any case; compressing it is the small part of the work, and what
//! comes out is what a put with these options makes, bit for bit, and shared with it.

use std::sync::Arc;

use async_stream::try_stream;
use c3_types::{ByteRange, PutEvent, StageTimes, Stored, WriteOptions};
use futures::{Stream, StreamExt, pin_mut};

use super::document::{Writing, write_text};
use super::limits;
use super::plan::Plan;
use crate::error::Error;
use crate::ingest::text::{self, Begun};
use crate::read::document::document_text;
use crate::state::SharedGateway;
use c3_store::manifest::Manifest;

/// Writes a document anew. What `options` leave open stays as the document has it. Ends as a put does.
pub(crate) fn recode(
    gateway: SharedGateway,
    id: String,
    options: WriteOptions,
) -> impl Stream<Item = Result<PutEvent, Error>> + Send {
    try_stream! {
        options.check_without_upload()?;
        let found = gateway.find(&id).await?;
        let old = &found.value;
        // A bound on stored bytes needs the text's size, which the document has.
        let options = WriteOptions { bytes: Some(old.bytes()), ..options };
        let limits = limits(&gateway, &options)?;
        let plan = Plan::like(&options, old, &gateway).await?;
        if options.auto_ratio.is_none() && is_written_so(old, &plan) {
            let document = old.document(found.bytes);
            let (shards_reused, times) = (document.shards, StageTimes::default());
            yield PutEvent::Stored(Box::new(Stored { document, shards_reused, times, bound_met: None }));
            return;
        }
        let text = document_text(Arc::clone(&gateway), old.id, ByteRange::default());
        let parts = text::shards(Begun::default(), text, limits);
        let writing = Writing::new(plan, options).in_place_of(old.clone());
        let events = write_text(gateway, writing, parts);
        pin_mut!(events);
        while let Some(event) = events.next().await {
            yield event?;
        }
    }
}

/// Whether there is nothing to do.
fn is_written_so(old: &Manifest, plan: &Plan) -> bool {
    let ratios = old.shards.iter().all(|shard| {
        let ratio = plan.ratios.get(&shard.hash).unwrap_or(&plan.ratio);
        shard.import_digest.is_none() && shard.ratio == *ratio
    });
    ratios && (&old.cascade, old.codec, &old.verification) == (&plan.cascade, plan.codec, &plan.verification)
}

#[cfg(test)]
mod tests {
    use c3_types::LatentCodec;

    use super::*;
    use crate::test_data::manifest;

    fn plan(old: &Manifest) -> Plan {
        Plan {
            cascade: old.cascade.clone(),
            ratio: 20,
            codec: old.codec,
            verification: old.verification.clone(),
            ratios: Arc::default(),
            ttl: None,
        }
    }

    #[test]
    fn only_what_is_written_otherwise_is_written_anew() {
        let old = manifest(&[vec![10], vec![20]], true);
        assert!(is_written_so(&old, &plan(&old)));
        let mut unverified = old.clone();
        unverified.verification = None;
        let mut outside = old.clone();
        outside.shards[1].import_digest = Some([1; 32]);
        let mut mixed = old.clone();
        mixed.shards[1].ratio = 40;
        let codec = Manifest { codec: LatentCodec::F32, ..old.clone() };
        for other in [unverified, outside, mixed.clone(), codec] {
            assert!(!is_written_so(&other, &plan(&old)));
        }
        let mut kept = plan(&old);
        kept.ratios = Arc::new(mixed.shards.iter().map(|shard| (shard.hash, shard.ratio)).collect());
        assert!(is_written_so(&mixed, &kept));
    }
}
