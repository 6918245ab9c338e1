//! Settings of a write, resolved from the caller's options, the gateway's settings and the checkpoint's defaults.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use c3_store::manifest::{Manifest, ShardEntry, Verification};
use c3_store::object::key::{CorrectionSettings, LatentSettings, ShardKeyPrefixes};
use c3_store::object::version::{Version, now_unix_ms};
use c3_store::shard::{ShardLatents, Sketches};
use c3_types::{Cascade, DocumentId, LatentCodec, ShardHash, Stage, WriteOptions};

use crate::error::Error;
use crate::sketches::{SketchKey, sketches};
use crate::state::Gateway;

/// Settings of a write.
#[derive(Clone, Debug)]
pub(crate) struct WritePlan {
    pub(crate) cascade: Cascade,
    /// Text tokens per latent.
    pub(crate) ratio: u32,
    pub(crate) codec: LatentCodec,
    /// `None` if verification is skipped.
    pub(crate) verification: Option<Verification>,
    /// Ratios by shard, which take precedence over `ratio`.
    pub(crate) ratios: Arc<HashMap<ShardHash, u32>>,
    /// Lifetime of the document. `None` means that it never expires.
    pub(crate) ttl: Option<Duration>,
    /// True if search finds the document.
    pub(crate) is_searchable: bool,
    /// Key of the sketches for search; `None` if no sketches are computed.
    pub(crate) sketch_key: Option<SketchKey>,
    /// Bytes that this write has compressed, for its progress. Copies of the plan share the counter.
    pub(crate) compressed: Arc<AtomicU64>,
}

impl WritePlan {
    /// Resolves the options, before any text is read. Waits until each stage that the write needs has a ready node. If
    /// a stage gets none, the write thus fails only once, and before it consumes text. Also fails if the checkpoint
    /// does not support the ratio.
    pub(crate) async fn new(options: &WriteOptions, gateway: &Gateway) -> Result<Self, Error> {
        let stages = if options.skip_verification { &[Stage::Compressor][..] } else { &Stage::ALL };
        gateway.router.wait_until_ready(stages).await?;
        let served = gateway.router.cascade(options.cascade.as_deref()).await?;
        let ratio = served.ratios.check(options.ratio.unwrap_or(0))?;
        let verification = match options.skip_verification {
            true => None,
            // The whole document is verified with one arithmetic (exact order and precision of operations). So one node
            // can decode all of it exactly as it was verified.
            false => Some(Verification {
                margin: options.margin.unwrap_or(gateway.config.margin),
                arithmetic: gateway.router.arithmetic(served.cascade.decoder).await?,
            }),
        };
        Ok(Self {
            cascade: served.cascade.clone(),
            ratio,
            codec: options.codec.or(gateway.config.codec).unwrap_or(served.codec),
            verification,
            ratios: Arc::default(),
            ttl: options.ttl_seconds.map(Duration::from_secs),
            is_searchable: !options.skip_search,
            sketch_key: match options.skip_search {
                true => None,
                false => gateway.search.key_or_none(&gateway.store).await?,
            },
            compressed: Arc::default(),
        })
    }

    /// Resolves the options like [`WritePlan::new`], but takes unset cascade, ratio, codec and margin from `document`.
    /// If the options choose no ratio, each shard of `document` keeps its own ratio.
    pub(crate) async fn with_defaults_of(
        document: &Manifest,
        options: &WriteOptions,
        gateway: &Gateway,
    ) -> Result<Self, Error> {
        let mut plan = Self::new(&with_defaults(options.clone(), document), gateway).await?;
        if options.auto_ratio.is_none() && options.ratio.is_none() {
            plan.ratios = Arc::new(document.shards.iter().map(|shard| (shard.hash, shard.ratio)).collect());
        }
        Ok(plan)
    }

    /// Returns the manifest of a document that consists of these shards and is created now.
    pub(crate) fn manifest(&self, id: DocumentId, shards: Vec<ShardEntry>) -> Manifest {
        let created_unix_ms = now_unix_ms();
        Manifest {
            id,
            version: Version::NONE,
            cascade: self.cascade.clone(),
            ratio: Manifest::ratio_of(&shards, self.ratio),
            codec: self.codec,
            verification: self.verification.clone(),
            created_unix_ms,
            expires_unix_ms: self.expires_unix_ms(created_unix_ms),
            is_searchable: self.is_searchable,
            shards,
            subtrees: Vec::new(),
        }
    }

    /// Returns the expiry of a document that is created at this time, in milliseconds since 1970; `None` if it never
    /// expires.
    pub(crate) fn expires_unix_ms(&self, created_unix_ms: u64) -> Option<u64> {
        let ttl_ms = self.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        ttl_ms.map(|ttl_ms| created_unix_ms.saturating_add(ttl_ms))
    }

    /// Returns the search sketches of a shard; none if search is off. `text` is the text of the shard.
    pub(crate) fn sketches(&self, text: &str, latents: &ShardLatents) -> Sketches {
        self.sketch_key.as_ref().map_or_else(Sketches::default, |key| sketches(text, latents, key))
    }

    /// Returns whether a document was written with the same cascade, codec and verification. Ignores ratios.
    pub(crate) fn has_settings_of(&self, document: &Manifest) -> bool {
        (&self.cascade, self.codec, &self.verification) == (&document.cascade, document.codec, &document.verification)
    }

    /// Returns the plan of one shard, with the ratio that [`Self::ratios`] has for it, if any.
    pub(crate) fn for_shard(self: Arc<Self>, shard: ShardHash) -> Arc<Self> {
        match self.ratios.get(&shard) {
            Some(&ratio) => Arc::new(Self { ratio, ..Self::clone(&self) }),
            None => self,
        }
    }

    /// Returns the key prefixes of the objects of a shard that is written at [`Self::ratio`].
    pub(crate) fn key_prefixes(&self, shard: ShardHash) -> ShardKeyPrefixes {
        let latents = LatentSettings { compressor: self.cascade.compressor, ratio: self.ratio, codec: self.codec };
        let corrections = self.verification.as_ref().map(|verification| CorrectionSettings {
            decoder: self.cascade.decoder,
            arithmetic: verification.arithmetic.clone(),
            margin: verification.margin,
        });
        ShardKeyPrefixes::new(shard, &latents, corrections.as_ref(), None)
    }
}

/// Fills unset cascade, ratio, codec and margin from a document. Only the options can skip verification.
fn with_defaults(options: WriteOptions, document: &Manifest) -> WriteOptions {
    // Imported latents have margin 0, which no caller chose. Margin 0 is therefore not taken over.
    let margin = document.verification.as_ref().map(|verification| verification.margin);
    let margin = margin.filter(|&margin| margin > 0.0);
    let ratio = Some(document.ratio).filter(|&ratio| ratio != 0 && options.auto_ratio.is_none());
    WriteOptions {
        cascade: options.cascade.or_else(|| Some(document.cascade.name.clone())),
        ratio: options.ratio.or(ratio),
        codec: options.codec.or(Some(document.codec)),
        margin: options.margin.or(margin),
        skip_search: options.skip_search || !document.is_searchable,
        ..options
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::manifest;

    #[test]
    fn unset_options_come_from_the_document() {
        let old = manifest(&[vec![10]], true);
        let given = WriteOptions { codec: Some(LatentCodec::F32), ..WriteOptions::default() };
        let options = with_defaults(given, &old);
        assert_eq!((options.ratio, options.codec), (Some(20), Some(LatentCodec::F32)));
        assert_eq!(options.margin, Some(2.0));
        assert_eq!(options.cascade.as_deref(), Some("c3-mini"));
        let mixed = with_defaults(WriteOptions::default(), &Manifest { ratio: 0, ..old });
        assert_eq!(mixed.ratio, None);
    }
}
