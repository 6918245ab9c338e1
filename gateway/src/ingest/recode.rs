//! Recode: writes a stored document again with other options.
//!
//! The text is decoded, then compressed, verified and stored like a new text. Finally the manifest is replaced, if it
//! is still the one that was read at the start. If an earlier step fails, the document is unchanged. A document that is
//! deleted meanwhile stays deleted. If only the time to live is new, only the manifest is written again.
//!
//! Unlike a put, a recode may weaken the document: it may bring the expiry forward, lower the margin, or drop the
//! corrections.
//!
//! The text is compressed again even if only the codec differs. It has to be decoded anyway, because verification needs
//! its tokens, which are not stored, and compression takes less time than decoding. The result is bit for bit the same
//! as that of a put with these options, and both share their objects.

use std::sync::Arc;

use async_stream::try_stream;
use c3_store::manifest::Manifest;
use c3_store::object::version::now_unix_ms;
use c3_types::{ByteRange, Invalid, PutEvent, StageTimes, Stored, WriteOptions};
use futures::{Stream, StreamExt, pin_mut};

use super::document::{DocumentWrite, replace, write_text};
use super::plan::WritePlan;
use super::text::{self, TextLimits, TextPrefix};
use crate::error::Error;
use crate::read::document::document_text;
use crate::state::SharedGateway;

/// Writes a document again if the options change it. Unset options keep the document's values. The last event is
/// `Stored`.
pub(crate) fn recode(
    gateway: SharedGateway,
    id: String,
    options: WriteOptions,
) -> impl Stream<Item = Result<PutEvent, Error>> + Send {
    try_stream! {
        options.check_without_upload()?;
        gateway.check_stored()?;
        if options.name.is_some() || !options.labels.is_empty() {
            Err(Invalid::new("options.name", "recoding does not change names or labels: omit them"))?;
        }
        let found = gateway.find(&id).await?;
        let old = &found.value;
        // If the options limit the stored bytes, the planner needs the size of the text.
        let options = WriteOptions { bytes: Some(old.bytes()), ..options };
        options.check()?;
        let limits = TextLimits::new(gateway.config.document_size_max.0, options.bytes)?;
        let plan = WritePlan::with_defaults_of(old, &options, &gateway).await?;
        if options.auto_ratio.is_none() && is_up_to_date(old, &plan) {
            let document = match plan.expires_unix_ms(now_unix_ms()) {
                Some(expires) => {
                    let new = Manifest { expires_unix_ms: Some(expires), ..old.clone() };
                    let stored = replace(&gateway, old, new).await?;
                    stored.value.document(stored.bytes)
                }
                None => old.document(found.bytes),
            };
            let (shards_reused, times) = (document.shards, StageTimes::default());
            let stored = Stored { document, shards_reused, times, bound_met: None, already_stored: true };
            yield PutEvent::Stored(Box::new(stored));
            return;
        }
        let text = document_text(Arc::clone(&gateway), old.id, ByteRange::default());
        let parts = text::shards(TextPrefix::default(), text, limits);
        let events = write_text(gateway, DocumentWrite::replacing(old.clone(), plan, options), parts);
        pin_mut!(events);
        while let Some(event) = events.next().await {
            yield event?;
        }
    }
}

/// Returns whether the document has the ratios and settings of the plan and was not imported. Ignores the expiry.
fn is_up_to_date(old: &Manifest, plan: &WritePlan) -> bool {
    let has_ratios = old.shards.iter().all(|shard| {
        let ratio = plan.ratios.get(&shard.hash).unwrap_or(&plan.ratio);
        shard.import_digest.is_none() && shard.ratio == *ratio
    });
    has_ratios && plan.has_settings_of(old)
}

#[cfg(test)]
mod tests {
    use c3_types::LatentCodec;

    use super::*;
    use crate::test_data::manifest;

    fn plan(old: &Manifest) -> WritePlan {
        WritePlan {
            cascade: old.cascade.clone(),
            ratio: 20,
            codec: old.codec,
            verification: old.verification.clone(),
            ratios: Arc::default(),
            ttl: None,
            is_searchable: true,
            sketch_key: None,
            compressed: Arc::default(),
        }
    }

    #[test]
    fn a_document_is_up_to_date_only_with_equal_settings() {
        let old = manifest(&[vec![10], vec![20]], true);
        assert!(is_up_to_date(&old, &plan(&old)));
        let mut unverified = old.clone();
        unverified.verification = None;
        let mut imported = old.clone();
        imported.shards[1].import_digest = Some([1; 32]);
        let mut mixed = old.clone();
        mixed.shards[1].ratio = 40;
        let codec = Manifest { codec: LatentCodec::F32, ..old.clone() };
        for other in [unverified, imported, mixed.clone(), codec] {
            assert!(!is_up_to_date(&other, &plan(&old)));
        }
        let mut kept = plan(&old);
        kept.ratios = Arc::new(mixed.shards.iter().map(|shard| (shard.hash, shard.ratio)).collect());
        assert!(is_up_to_date(&mixed, &kept));
    }
}
