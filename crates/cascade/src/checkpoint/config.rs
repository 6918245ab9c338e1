//! Configuration of a stage, from GGUF metadata or the published `config.json`.

use std::collections::HashMap;

use candle_core::quantized::gguf_file::{Content, Value};
use serde::Deserialize;

use super::Stage;
use super::files::Files;
use crate::Error;
use crate::layout::{Layout, PositionLayout};

/// Number of vector lanes in the CPU kernels. Head widths must be a multiple of it.
const HEAD_DIM_STEP: usize = 16;

/// Limits of the dimensions, several times those of the largest published networks.
const HIDDEN_MAX: usize = 1 << 16;
const LAYERS_MAX: usize = 1 << 10;
const HEADS_MAX: usize = 1 << 10;
const VOCABULARY_MAX: usize = 1 << 22;
/// Maximum latents of a window, as in the protocol.
const LATENTS_MAX: usize = 1 << 10;
/// Maximum text tokens per latent: the tokens of the longest window.
const RATIO_MAX: usize = 16 << 10;

/// Dimensions of a Qwen2 network.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NetworkConfig {
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) vocabulary: usize,
    pub(crate) rope_theta: f32,
    pub(crate) rms_norm_eps: f32,
}

impl NetworkConfig {
    /// Width of one head.
    pub(crate) fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// Refuses dimensions that the kernels do not support, and those of no real network: they would overflow sums, or
    /// reserve memory for tensors that the files do not have.
    fn validated(self) -> Result<Self, Error> {
        let sizes = [
            (self.hidden, HIDDEN_MAX),
            (self.layers, LAYERS_MAX),
            (self.heads, HEADS_MAX),
            (self.kv_heads, HEADS_MAX),
            (self.vocabulary, VOCABULARY_MAX),
        ];
        if !sizes.iter().all(|(size, max)| (1..=*max).contains(size))
            || ![self.rope_theta, self.rms_norm_eps].iter().all(|number| number.is_finite() && *number > 0.0)
            || !self.hidden.is_multiple_of(HEAD_DIM_STEP * self.heads)
            || !self.heads.is_multiple_of(self.kv_heads)
        {
            return Err(Error::checkpoint(format!("the dimensions of the network are not supported: {self:?}")));
        }
        Ok(self)
    }
}

/// Ratios that a checkpoint accepts, in text tokens per latent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ratios {
    pub(crate) min: usize,
    pub(crate) max: usize,
    pub(crate) default: usize,
    pub(crate) trained: Vec<usize>,
}

/// Ratio for requests without a ratio, if the checkpoint supports it. The paper reports 98 % precision at this ratio.
const RATIO_DEFAULT: usize = 20;

/// Configuration of one stage.
pub(super) struct Settings {
    pub(super) network: NetworkConfig,
    pub(super) layout: Layout,
    pub(super) ratios: Ratios,
    pub(super) end_ids: Vec<u32>,
}

impl Settings {
    pub(super) fn from_gguf(content: &Content) -> Result<Self, Error> {
        let metadata = Metadata(&content.metadata);
        let architecture = metadata.string("general.architecture")?;
        if architecture != "qwen2" {
            return Err(Error::checkpoint(format!(
                "architecture {architecture} is not supported: use a qwen2 checkpoint"
            )));
        }
        let network = NetworkConfig {
            hidden: metadata.size("qwen2.embedding_length")?,
            layers: metadata.size("qwen2.block_count")?,
            heads: metadata.size("qwen2.attention.head_count")?,
            kv_heads: metadata.size("qwen2.attention.head_count_kv")?,
            vocabulary: metadata.size("qwen2.vocab_size")?,
            rope_theta: metadata.float("qwen2.rope.freq_base")?,
            rms_norm_eps: metadata.float("qwen2.attention.layer_norm_rms_epsilon")?,
        };
        let positions = match metadata.string("c3.position_layout")?.as_str() {
            "aligned" => PositionLayout::Aligned,
            "published" => PositionLayout::Published,
            other => return Err(Error::checkpoint(format!("position layout {other}: use aligned or published"))),
        };
        let trained = metadata.sizes("c3.ratios")?;
        let (min, max) = (metadata.size("c3.min_ratio")?, metadata.size("c3.max_ratio")?);
        if min == 0 || max < min || max > RATIO_MAX {
            return Err(Error::checkpoint(format!("ratios {min} to {max} are not within 1 to {RATIO_MAX}")));
        }
        Ok(Self {
            network: network.validated()?,
            layout: layout(positions, metadata.size("c3.latent_token_len")?)?,
            ratios: Ratios { min, max, default: RATIO_DEFAULT.clamp(min, max), trained },
            end_ids: Vec::new(),
        })
    }

    pub(super) fn from_published(files: &Files, stage: Stage) -> Result<Self, Error> {
        let main: PublishedMain = read_json(files, "config.json")?;
        let network: PublishedNetwork = match stage {
            Stage::Compressor => read_json(files, "llm1/config.json")?,
            Stage::Decoder => read_json(files, "config.json")?,
        };
        if network.use_sliding_window || network.rope_scaling.is_some() {
            return Err(Error::checkpoint("sliding windows and scaled rotary positions are not supported"));
        }
        let network = NetworkConfig {
            hidden: network.hidden_size,
            layers: network.num_hidden_layers,
            heads: network.num_attention_heads,
            kv_heads: network.num_key_value_heads,
            vocabulary: network.vocab_size,
            rope_theta: network.rope_theta,
            rms_norm_eps: network.rms_norm_eps,
        };
        Ok(Self {
            network: network.validated()?,
            layout: layout(PositionLayout::Published, main.latent_token_len)?,
            // The paper trains and evaluates ratios up to 40.
            ratios: Ratios { min: 1, max: 40, default: RATIO_DEFAULT, trained: vec![20, 40] },
            end_ids: vec![main.eos_token_id],
        })
    }
}

/// Checks the number of latents of a window.
fn layout(positions: PositionLayout, latent_token_len: usize) -> Result<Layout, Error> {
    match latent_token_len {
        1..=LATENTS_MAX => Ok(Layout { positions, latent_token_len }),
        _ => Err(Error::checkpoint(format!("{latent_token_len} latents per window are not within 1 to {LATENTS_MAX}"))),
    }
}

/// Cascade settings in the main `config.json`.
#[derive(Deserialize)]
struct PublishedMain {
    latent_token_len: usize,
    eos_token_id: u32,
}

/// Network settings in the `config.json` of either stage.
#[derive(Deserialize)]
struct PublishedNetwork {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    vocab_size: usize,
    rope_theta: f32,
    rms_norm_eps: f32,
    #[serde(default)]
    use_sliding_window: bool,
    rope_scaling: Option<serde_json::Value>,
}

fn read_json<T: serde::de::DeserializeOwned>(files: &Files, name: &str) -> Result<T, Error> {
    serde_json::from_slice(&files.read(name)?).map_err(|error| {
        Error::checkpoint(format!("{name} is invalid ({error}): use the file that came with the checkpoint"))
    })
}

/// Typed access to GGUF metadata, with errors that name the key.
struct Metadata<'a>(&'a HashMap<String, Value>);

impl Metadata<'_> {
    fn get<T>(&self, key: &str, read: impl Fn(&Value) -> candle_core::Result<T>) -> Result<T, Error> {
        let value = self.0.get(key).and_then(|value| read(value).ok());
        value.ok_or_else(|| Error::checkpoint(format!("GGUF metadata {key} is missing or has the wrong type")))
    }

    fn size(&self, key: &str) -> Result<usize, Error> {
        self.get(key, size)
    }

    fn sizes(&self, key: &str) -> Result<Vec<usize>, Error> {
        self.get(key, |value| value.to_vec()?.iter().map(size).collect())
    }

    fn float(&self, key: &str) -> Result<f32, Error> {
        self.get(key, Value::to_f32)
    }

    fn string(&self, key: &str) -> Result<String, Error> {
        self.get(key, |value| value.to_string().cloned())
    }
}

fn size(value: &Value) -> candle_core::Result<usize> {
    value.to_u32().map(|v| v as usize).or_else(|_| value.to_i32().map(|v| v.max(0) as usize))
}
