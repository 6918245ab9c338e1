//! Properties of a node's model.

use c3_proto::{ToWire, pb};
use c3_types::{Cascade, LatentCodec, RatioRange, Stage};

use crate::NodeArgs;

/// Properties of a node's model, in the protocol's types.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// Cascade that the model belongs to.
    pub cascade: Cascade,
    /// Name of the arithmetic: the order and precision of the model's computations.
    pub arithmetic: String,
    /// Device that the model computes on: `cpu` or `cuda:N`.
    pub device: String,
    /// Name, memory and compute capability of the GPU; `None` on a CPU.
    pub accelerator: Option<String>,
    /// Width of a latent, d₁.
    pub latent_width: usize,
    /// Number of latents of a full window, which is a run of text tokens with one latent group.
    pub latent_token_len: usize,
    /// True if even a short window has `latent_token_len` latents.
    pub fixed_latents: bool,
    /// Ratios (text tokens per latent) that the model accepts.
    pub ratio: RatioRange,
    /// Ratios that the model was trained for.
    pub ratios: Vec<usize>,
    /// Default codec of stored latents.
    pub codec: LatentCodec,
    /// True if Decompress requests may contain a prompt.
    pub takes_prompt: bool,
    /// Number of token ids in the vocabulary.
    pub vocabulary: usize,
}

impl ModelInfo {
    /// Returns the part of a node's description that is constant while the node runs.
    pub(crate) fn describe(&self, stage: Stage, args: &NodeArgs) -> pb::DescribeResponse {
        pb::DescribeResponse {
            stage: stage.to_wire(),
            cascade: Some(self.cascade.to_wire()),
            arithmetic: self.arithmetic.clone(),
            device: self.device.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            shape: Some(pb::ModelShape {
                latent_width: saturating_u32(self.latent_width),
                latent_token_len: saturating_u32(self.latent_token_len),
                fixed_latents: self.fixed_latents,
                ratio_min: self.ratio.min,
                ratio_max: self.ratio.max,
                ratio_default: self.ratio.default,
                ratios: self.ratios.iter().copied().map(saturating_u32).collect(),
                codec: self.codec.to_wire(),
                takes_prompt: self.takes_prompt,
                vocabulary: saturating_u32(self.vocabulary),
            }),
            limits: Some(args.limits(&self.device)),
            load: None,
            counters: None,
            accelerator: self.accelerator.clone().unwrap_or_default(),
        }
    }
}

/// Converts a size for the protocol. A size above `u32::MAX`, which no model has, becomes `u32::MAX`.
pub fn saturating_u32(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
