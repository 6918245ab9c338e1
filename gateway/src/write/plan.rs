//! How a text will be written: the caller's options, the checkpoint's defaults and the gateway's settings made one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use c3_proto::{CascadeName, LatentCodec, ShardHash, WriteOptions};

use crate::error::Failure;
use crate::gateway::Gateway;
use crate::store::layout::{CorrectionSettings, LatentSettings, ShardFamilies};
use crate::store::manifest::Verification;

/// How a text is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) cascade: CascadeName,
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
    pub(crate) async fn new(options: &WriteOptions, gateway: &Gateway) -> Result<Self, Failure> {
        let served = gateway.nodes.cascade(options.cascade.as_deref()).await?;
        let ratio = served.ratios.check(options.ratio.unwrap_or(0))?;
        let verification = match options.skip_verification {
            true => None,
            // One arithmetic for all of a document, so that it can be read exactly as it was verified.
            false => Some(Verification {
                margin: options.margin.unwrap_or(gateway.config.margin),
                arithmetic: gateway.nodes.arithmetic(served.cascade.decoder).await?,
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

    /// The plan of a shard: the document's, with the shard's own ratio where it has one.
    pub(crate) fn of(self: Arc<Self>, shard: ShardHash) -> Arc<Self> {
        match self.ratios.get(&shard) {
            Some(&ratio) => Arc::new(Self { ratio, ..Self::clone(&self) }),
            None => self,
        }
    }

    /// Where all generations of a shard written so are stored.
    pub(crate) fn families(&self, shard: ShardHash) -> ShardFamilies {
        let latents =
            LatentSettings { compressor: self.cascade.compressor, ratio: self.ratio, codec: self.codec };
        let corrections = self.verification.as_ref().map(|how| CorrectionSettings {
            decoder: self.cascade.decoder,
            arithmetic: how.arithmetic.clone(),
            margin: how.margin,
        });
        ShardFamilies::new(shard, &latents, corrections.as_ref(), None)
    }
}
