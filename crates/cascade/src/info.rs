//! What a loaded stage says of itself.

use crate::checkpoint::Checkpoint;
use crate::layout::PositionLayout;

/// What a loaded stage says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageInfo {
    /// Name of the cascade.
    pub cascade: String,
    /// BLAKE3 of the compressor's config, tokenizer and weights.
    pub compressor_fingerprint: [u8; 32],
    /// BLAKE3 of the decoder's config, tokenizer and weights.
    pub decoder_fingerprint: [u8; 32],
    /// Order and precision of the computation. Where it is `c3-int8-2`, every CPU computes the same bits; others write
    /// the same text where margins are not thin.
    pub arithmetic: String,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Width of a latent, d₁.
    pub latent_width: usize,
    /// Latents of a full window.
    pub latent_token_len: usize,
    /// Whether every window has `latent_token_len` latents, however short.
    pub fixed_latents: bool,
    /// Fewest text tokens a latent.
    pub ratio_min: usize,
    /// Most text tokens a latent.
    pub ratio_max: usize,
    /// Taken where the caller names none.
    pub ratio_default: usize,
    /// The ratios that the model was made for.
    pub ratios: Vec<usize>,
    /// Codec of latents at rest: `q4_0` or `bf16`.
    pub latent_codec: &'static str,
    /// Whether the decoder answers prompts, as the published chat does.
    pub takes_prompt: bool,
    /// Number of token ids.
    pub vocabulary: usize,
}

impl StageInfo {
    pub(crate) fn of(checkpoint: &Checkpoint, latent_width: usize) -> Self {
        let published = checkpoint.layout.positions == PositionLayout::Published;
        Self {
            cascade: checkpoint.manifest.name.clone(),
            compressor_fingerprint: *checkpoint.manifest.compressor.fingerprint.as_bytes(),
            decoder_fingerprint: *checkpoint.manifest.decoder.fingerprint.as_bytes(),
            arithmetic: checkpoint.numbers.arithmetic(&checkpoint.device),
            device: checkpoint.device_name.clone(),
            latent_width,
            latent_token_len: checkpoint.layout.latent_token_len,
            fixed_latents: checkpoint.layout.fixed_latents(),
            ratio_min: checkpoint.ratios.min,
            ratio_max: checkpoint.ratios.max,
            ratio_default: checkpoint.ratios.default,
            ratios: checkpoint.ratios.made_for.clone(),
            latent_codec: if published { "bf16" } else { "q4_0" },
            takes_prompt: published,
            vocabulary: checkpoint.tokenizer.vocabulary(),
        }
    }
}
