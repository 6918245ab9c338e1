//! A checkpoint of the published layout with random weights, to measure speed at the published sizes.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use anyhow::Result;
use half::bf16;
use rayon::prelude::*;
use safetensors::{Dtype, View};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::harness::fixtures::Corpus;

/// Standard deviation of weights, about that of Qwen2's initialisation.
const WEIGHT_STD: f32 = 0.02;
/// Values that one thread generates at a time.
const PIECE: usize = 1 << 20;

/// Shape of a Qwen2 network with tied embeddings.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Hidden size.
    pub hidden: usize,
    /// Number of transformer layers.
    pub layers: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key heads.
    pub key_heads: usize,
    /// Size of the MLP.
    pub intermediate: usize,
    /// Number of token ids.
    pub vocabulary: usize,
}

/// Qwen2.5-1.5B, the shape of the published compressor.
pub const QWEN_1_5B: Shape =
    Shape { hidden: 1536, layers: 28, heads: 12, key_heads: 2, intermediate: 8960, vocabulary: 151_936 };
/// Qwen2.5-3B, the shape of the published decoder.
pub const QWEN_3B: Shape =
    Shape { hidden: 2048, layers: 36, heads: 16, key_heads: 2, intermediate: 11008, vocabulary: 151_936 };

impl Shape {
    /// Returns the configuration as in `config.json`.
    pub fn config(self) -> Map<String, Value> {
        let config = json!({
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_heads,
            "intermediate_size": self.intermediate,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e6,
            "tie_word_embeddings": true,
        });
        config.as_object().cloned().unwrap_or_default()
    }

    /// Returns the number of weights that one decoding step reads: all but the norms and biases.
    pub fn weights(self) -> usize {
        let Self { hidden, layers, heads, key_heads, intermediate, vocabulary } = self;
        let qkv = hidden * hidden / heads * (heads + 2 * key_heads);
        layers * (qkv + hidden * hidden + 3 * hidden * intermediate) + vocabulary * hidden
    }

    fn tensors(self) -> Vec<(String, Random)> {
        let Self { hidden, layers, heads, key_heads, intermediate, vocabulary } = self;
        let keys = hidden / heads * key_heads;
        let mut tensors = vec![
            ("model.embed_tokens.weight".to_owned(), Random::weight(&[vocabulary, hidden])),
            ("model.norm.weight".to_owned(), Random::norm(hidden)),
        ];
        for layer in 0..layers {
            let matrices = [
                ("self_attn.q_proj", [hidden, hidden]),
                ("self_attn.k_proj", [keys, hidden]),
                ("self_attn.v_proj", [keys, hidden]),
                ("self_attn.o_proj", [hidden, hidden]),
                ("mlp.gate_proj", [intermediate, hidden]),
                ("mlp.up_proj", [intermediate, hidden]),
                ("mlp.down_proj", [hidden, intermediate]),
            ];
            for (name, shape) in matrices {
                tensors.push((format!("model.layers.{layer}.{name}.weight"), Random::weight(&shape)));
                if ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"].contains(&name) {
                    tensors.push((format!("model.layers.{layer}.{name}.bias"), Random::weight(&shape[..1])));
                }
            }
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                tensors.push((format!("model.layers.{layer}.{norm}.weight"), Random::norm(hidden)));
            }
        }
        tensors
    }
}

/// Writes a checkpoint of the published layout to a temporary folder, with the tokenizer of the golden vectors and
/// `latents` latents per window.
pub fn write(corpus: Corpus, compressor: Shape, decoder: Shape, latents: usize) -> Result<TempDir> {
    let folder = TempDir::with_prefix("c3-random-")?;
    let golden = corpus.path("golden")?;
    fs::copy(golden.join("tokenizer.json"), folder.path().join("tokenizer.json"))?;
    let (from, to) = (golden.join("checkpoint"), folder.path());
    let mut tensors = decoder.tensors();
    tensors.push(("model.Q.weight".to_owned(), Random::weight(&[latents, compressor.hidden])));
    tensors.push(("model.mm_projector.weight".to_owned(), Random::weight(&[decoder.hidden, compressor.hidden])));
    tensors.push(("model.mm_projector.bias".to_owned(), Random::weight(&[decoder.hidden])));
    let extra = json!({"latent_token_len": latents, "contexts_compression_llm_hidden_size": compressor.hidden});
    write_stage(&from, to, decoder, tensors, &extra)?;
    fs::create_dir(to.join("llm1"))?;
    write_stage(&from.join("llm1"), &to.join("llm1"), compressor, compressor.tensors(), &json!({}))?;
    Ok(folder)
}

/// Writes the files of one stage. Takes the settings that `shape` and `extra` do not have from the folder `from`.
fn write_stage(from: &Path, to: &Path, shape: Shape, tensors: Vec<(String, Random)>, extra: &Value) -> Result<()> {
    let mut config: Map<String, Value> = serde_json::from_slice(&fs::read(from.join("config.json"))?)?;
    config.extend(shape.config());
    config.extend(extra.as_object().cloned().unwrap_or_default());
    fs::write(to.join("config.json"), serde_json::to_vec_pretty(&config)?)?;
    fs::copy(from.join("generation_config.json"), to.join("generation_config.json"))?;
    Ok(safetensors::serialize_to_file(tensors, None, &to.join("model.safetensors"))?)
}

/// A tensor in bf16 whose values are generated when they are written.
struct Random {
    shape: Vec<usize>,
    mean: f32,
}

impl Random {
    fn weight(shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), mean: 0.0 }
    }

    fn norm(width: usize) -> Self {
        Self { shape: vec![width], mean: 1.0 }
    }
}

impl View for Random {
    fn dtype(&self) -> Dtype {
        Dtype::BF16
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        // A uniform distribution with this range has the standard deviation `WEIGHT_STD`.
        let range = WEIGHT_STD * 12f32.sqrt();
        bytes.par_chunks_mut(2 * PIECE).enumerate().for_each(|(number, piece)| {
            let mut random = fastrand::Rng::with_seed((self.shape.iter().product::<usize>() + number) as u64);
            for value in piece.as_chunks_mut::<2>().0 {
                *value = bf16::from_f32(self.mean + (random.f32() - 0.5) * range).to_le_bytes();
            }
        });
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * size_of::<bf16>()
    }
}
