//! What a node's model says of itself.

use c3_cascade::StageInfo;
use c3_proto::{CascadeName, Fingerprint, Invalid, LatentCodec, RatioRange, Stage, pb};

use crate::Settings;

/// What a node's model says of itself, in the protocol's types.
#[derive(Clone, Debug)]
pub struct ModelFacts {
    /// The cascade that it belongs to.
    pub cascade: CascadeName,
    /// Name of the order and precision in which it computes.
    pub arithmetic: String,
    /// Where it computes.
    pub device: String,
    /// Width of a latent, d₁.
    pub latent_width: usize,
    /// Latents of a full window.
    pub latent_token_len: usize,
    /// Whether every window has that many, however short.
    pub fixed_latents: bool,
    /// Ratios that it accepts.
    pub ratio: RatioRange,
    /// Ratios that it was made for.
    pub ratios: Vec<usize>,
    /// Codec of latents at rest.
    pub codec: LatentCodec,
    /// Whether one-shot Decompress may carry a prompt.
    pub takes_prompt: bool,
    /// Number of token ids.
    pub vocabulary: usize,
}

impl ModelFacts {
    /// Of a loaded model. Errors: one that contradicts the protocol.
    pub fn new(info: &StageInfo) -> Result<Self, Invalid> {
        Ok(Self {
            cascade: CascadeName {
                name: info.cascade.clone(),
                compressor: Fingerprint::try_from(info.compressor_fingerprint.as_slice())?,
                decoder: Fingerprint::try_from(info.decoder_fingerprint.as_slice())?,
            },
            arithmetic: info.arithmetic.clone(),
            device: info.device.clone(),
            latent_width: info.latent_width,
            latent_token_len: info.latent_token_len,
            fixed_latents: info.fixed_latents,
            ratio: RatioRange {
                min: count(info.ratio_min),
                max: count(info.ratio_max),
                default: count(info.ratio_default),
            },
            ratios: info.ratios.clone(),
            codec: info.latent_codec.parse()?,
            takes_prompt: info.takes_prompt,
            vocabulary: info.vocabulary,
        })
    }

    /// The part of a node's description that does not change while it runs.
    pub fn describe(&self, stage: Stage, settings: &Settings) -> pb::DescribeResponse {
        pb::DescribeResponse {
            stage: stage.to_wire(),
            cascade: Some(self.cascade.to_wire()),
            arithmetic: self.arithmetic.clone(),
            device: self.device.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            shape: Some(pb::ModelShape {
                latent_width: count(self.latent_width),
                latent_token_len: count(self.latent_token_len),
                fixed_latents: self.fixed_latents,
                ratio_min: self.ratio.min,
                ratio_max: self.ratio.max,
                ratio_default: self.ratio.default,
                ratios: self.ratios.iter().copied().map(count).collect(),
                codec: self.codec.to_wire(),
                takes_prompt: self.takes_prompt,
                vocabulary: count(self.vocabulary),
            }),
            limits: Some(settings.limits(&self.device)),
            load: None,
            counters: None,
        }
    }
}

/// A size as it travels. Sizes of models are far below the bound.
pub fn count(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
