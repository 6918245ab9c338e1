//! How a text will be written: the caller's options, the checkpoint's defaults and the gateway's settings made one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use c3_types::{Cascade, DocumentId, LatentCodec, ShardHash, WriteOptions};

use crate::error::Error;
use crate::state::Gateway;
use c3_store::manifest::{Manifest, ShardEntry, Verification};
use c3_store::object::key::{CorrectionSettings, LatentSettings, ShardKeyPrefixes};
use c3_store::object::version::{Version, now_unix_ms};

/// How a text is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) cascade: Cascade,
    pub(crate) ratio: u32,
    pub(crate) codec: LatentCodec,
    /// `None` where it is skipped.
    pub(crate) verification: Option<Verification>,
    /// Shards that have a ratio of their own.
    pub(crate) ratios: Arc<HashMap<ShardHash, u32>>,
    /// How long the document is found; `None`: for ever.
    pub(crate) ttl: Option<Duration>,
}

impl Plan {
    /// Decides, or says which option cannot be.
    pub(crate) async fn new(options: &WriteOptions, gateway: &Gateway) -> Result<Self, Error> {
        let served = gateway.router.cascade(options.cascade.as_deref()).await?;
        let ratio = served.ratios.check(options.ratio.unwrap_or(0))?;
        let verification = match options.skip_verification {
            true => None,
            // One arithmetic for all of a document, so that it can be read exactly as it was verified.
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
        })
    }

    /// Decides as [`Plan::new`] does, and what is left open as a stored document is written.
    pub(crate) async fn like(
        options: &WriteOptions,
        like: &Manifest,
        gateway: &Gateway,
    ) -> Result<Self, Error> {
        let mut plan = Self::new(&completed(options.clone(), like), gateway).await?;
        if options.auto_ratio.is_none() && options.ratio.is_none() {
            plan.ratios = Arc::new(like.shards.iter().map(|shard| (shard.hash, shard.ratio)).collect());
        }
        Ok(plan)
    }

    /// The manifest of a document of these shards that is made now.
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
            shards,
            subtrees: Vec::new(),
        }
    }

    /// When a document that was made then is past its time, if ever.
    pub(crate) fn expires_unix_ms(&self, created_unix_ms: u64) -> Option<u64> {
        let ttl_ms = self.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        ttl_ms.map(|ttl_ms| created_unix_ms.saturating_add(ttl_ms))
    }

    /// The plan of a shard: the document's, with the shard's own ratio where it has one.
    pub(crate) fn of(self: Arc<Self>, shard: ShardHash) -> Arc<Self> {
        match self.ratios.get(&shard) {
            Some(&ratio) => Arc::new(Self { ratio, ..Self::clone(&self) }),
            None => self,
        }
    }

    /// Where all generations of a shard written so are stored.
    pub(crate) fn key_prefixes(&self, shard: ShardHash) -> ShardKeyPrefixes {
        let latents =
            LatentSettings { compressor: self.cascade.compressor, ratio: self.ratio, codec: self.codec };
        let corrections = self.verification.as_ref().map(|how| CorrectionSettings {
            decoder: self.cascade.decoder,
            arithmetic: how.arithmetic.clone(),
            margin: how.margin,
        });
        ShardKeyPrefixes::new(shard, &latents, corrections.as_ref(), None)
    }
}

/// What is left open is the document's. Only the caller can say that it is not to be verified.
fn completed(options: WriteOptions, like: &Manifest) -> WriteOptions {
    // Latents from outside were proven and not verified: their margin is 0, and nobody asked for it.
    let margin = like.verification.as_ref().map(|how| how.margin).filter(|&margin| margin > 0.0);
    let one_ratio = Some(like.ratio).filter(|&ratio| ratio != 0 && options.auto_ratio.is_none());
    WriteOptions {
        cascade: options.cascade.or_else(|| Some(like.cascade.name.clone())),
        ratio: options.ratio.or(one_ratio),
        codec: options.codec.or(Some(like.codec)),
        margin: options.margin.or(margin),
        ..options
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::manifest;

    #[test]
    fn what_is_left_open_is_the_documents() {
        let old = manifest(&[vec![10]], true);
        let given = WriteOptions { codec: Some(LatentCodec::F32), ..WriteOptions::default() };
        let options = completed(given, &old);
        assert_eq!((options.ratio, options.codec), (Some(20), Some(LatentCodec::F32)));
        assert_eq!(options.margin, Some(2.0));
        assert_eq!(options.cascade.as_deref(), Some("c3-mini"));
        let mixed = completed(WriteOptions::default(), &Manifest { ratio: 0, ..old });
        assert_eq!(mixed.ratio, None);
    }
}
