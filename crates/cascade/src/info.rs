//! Properties of a loaded stage.

/// Properties of a loaded stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageInfo {
    /// Name of the cascade.
    pub cascade: String,
    /// BLAKE3 over the compressor's config, tokenizer and weights.
    pub compressor_fingerprint: [u8; 32],
    /// BLAKE3 over the decoder's config, tokenizer and weights.
    pub decoder_fingerprint: [u8; 32],
    /// Name of the order and precision of the computation. Stages with `c3-int8-2` compute the same bits on every CPU
    /// and GPU. Stages with different arithmetic may predict different tokens if the logit margin is small.
    pub arithmetic: String,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Name, memory and compute capability of the GPU; `None` on a CPU.
    pub accelerator: Option<String>,
    /// Bytes of memory of the GPU; `None` on a CPU.
    pub accelerator_memory: Option<u64>,
    /// Width of a latent, d₁.
    pub latent_width: usize,
    /// Latents of a full window.
    pub latent_token_len: usize,
    /// True if every window has `latent_token_len` latents, however short the window is.
    pub fixed_latents: bool,
    /// Minimum ratio, in text tokens per latent.
    pub ratio_min: usize,
    /// Maximum ratio, in text tokens per latent.
    pub ratio_max: usize,
    /// Ratio for requests without a ratio.
    pub ratio_default: usize,
    /// Ratios that the model was trained for.
    pub ratios: Vec<usize>,
    /// Default codec of stored latents: `q4_0` or `bf16`.
    pub latent_codec: &'static str,
    /// True if the decoder can answer prompts, as the published chat does.
    pub takes_prompt: bool,
    /// Number of token ids.
    pub vocabulary: usize,
}
