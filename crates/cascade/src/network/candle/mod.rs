//! The network with candle's operations: dense or dequantised weights on any device.

mod attention;
mod rotary;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::{Embedding, Module};
use candle_transformers::models::with_tracing::Linear;

use super::{Heads, Pattern, Sequence};
use crate::Error;
use crate::checkpoint::{NetworkConfig, Weights};
pub(super) use attention::LayerCache;
use rotary::Rotary;

/// A Qwen2 network whose weights are dense tensors.
pub(super) struct Network {
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: Tensor,
    lm_head: Linear,
    rotary: Rotary,
    heads: Heads,
    config: NetworkConfig,
}

struct Layer {
    input_norm: Tensor,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    mlp_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Network {
    /// Loads the weights of a stage to `device`, converted to `dtype`.
    pub(super) fn load(
        weights: &mut Weights,
        config: &NetworkConfig,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, Error> {
        let mut load = Loader { weights, dtype, device };
        let table = load.tensor("model.embed_tokens.weight")?;
        let lm_head = match load.weights.has("lm_head.weight") {
            true => load.linear("lm_head")?,
            false => Linear::from_weights(table.clone(), None),
        };
        let layers = (0..config.layers).map(|i| Layer::load(&mut load, &format!("model.layers.{i}")));
        let layers = layers.collect::<Result<_, _>>()?;
        Ok(Self {
            embedding: Embedding::new(table, config.hidden),
            layers,
            norm: load.tensor("model.norm.weight")?,
            lm_head,
            rotary: Rotary::new(config),
            heads: Heads { query: config.heads, key: config.kv_heads, dim: config.head_dim() },
            config: config.clone(),
        })
    }

    /// See [`super::Qwen2::new_cache`].
    pub(super) fn new_cache(&self) -> Vec<LayerCache> {
        self.layers.iter().map(|_| LayerCache::default()).collect()
    }

    /// See [`super::Qwen2::kv_row_bytes`].
    pub(super) fn kv_row_bytes(&self) -> usize {
        self.layers.len() * 2 * self.heads.key * self.heads.dim * self.norm.dtype().size_in_bytes()
    }

    /// See [`super::Qwen2::embed`].
    pub(super) fn embed(&self, ids: &[u32]) -> Result<Tensor, Error> {
        Ok(self.embedding.forward(&Tensor::new(ids, self.norm.device())?)?)
    }

    /// See [`super::Qwen2::forward`].
    pub(super) fn forward(
        &self,
        hidden: Tensor,
        positions: &[u32],
        sequences: &mut [Sequence<'_>],
    ) -> Result<Tensor, Error> {
        let rotary = self.rotary.table(positions, &hidden)?;
        let masks = sequences.iter().map(|sequence| attention::mask(sequence, &hidden));
        let masks: Vec<Tensor> = masks.collect::<Result<_, _>>()?;
        let mut hidden = hidden;
        for (number, layer) in self.layers.iter().enumerate() {
            let normed = self.rms_norm(&hidden, &layer.input_norm)?;
            let q = rotary.apply(&layer.q.forward(&normed)?, self.heads.query)?;
            let k = rotary.apply(&layer.k.forward(&normed)?, self.heads.key)?;
            let v = layer.v.forward(&normed)?;
            let mixed = self.attend(number, sequences, &masks, [&q, &k, &v])?;
            hidden = (hidden + layer.o.forward(&mixed)?)?;
            let normed = self.rms_norm(&hidden, &layer.mlp_norm)?;
            let gated = (candle_nn::ops::silu(&layer.gate.forward(&normed)?)? * layer.up.forward(&normed)?)?;
            hidden = (hidden + layer.down.forward(&gated)?)?;
        }
        self.rms_norm(&hidden, &self.norm)
    }

    /// Appends `k` and `v` to the KV caches and computes attention. `q` and the result are `[rows, query heads * dim]`,
    /// `k` and `v` are `[rows, key heads * dim]`.
    fn attend(
        &self,
        layer: usize,
        sequences: &mut [Sequence<'_>],
        masks: &[Tensor],
        [q, k, v]: [&Tensor; 3],
    ) -> Result<Tensor, Error> {
        let mut mixed = Vec::with_capacity(sequences.len());
        let mut first = 0;
        for (sequence, mask) in sequences.iter_mut().zip(masks) {
            let rows = |x: &Tensor| x.narrow(0, first, sequence.rows);
            let [keys, values] = sequence.cache.candle_mut()[layer].append(&rows(k)?, &rows(v)?)?;
            mixed.push(attention::attend(&rows(q)?, &keys, &values, mask, self.heads)?);
            first += sequence.rows;
        }
        Ok(Tensor::cat(&mixed, 0)?)
    }

    /// Returns the logits of hidden states, `[rows, vocabulary]`.
    pub(super) fn logits(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        let logits = self.lm_head.forward(hidden)?;
        debug_assert_eq!(logits.dim(D::Minus1)?, self.config.vocabulary);
        Ok(logits)
    }

    fn rms_norm(&self, hidden: &Tensor, weight: &Tensor) -> Result<Tensor, Error> {
        Ok(candle_nn::ops::rms_norm(hidden, weight, self.config.rms_norm_eps)?)
    }
}

impl Layer {
    fn load(load: &mut Loader<'_>, name: &str) -> Result<Self, Error> {
        Ok(Self {
            input_norm: load.tensor(&format!("{name}.input_layernorm.weight"))?,
            q: load.linear(&format!("{name}.self_attn.q_proj"))?,
            k: load.linear(&format!("{name}.self_attn.k_proj"))?,
            v: load.linear(&format!("{name}.self_attn.v_proj"))?,
            o: load.linear(&format!("{name}.self_attn.o_proj"))?,
            mlp_norm: load.tensor(&format!("{name}.post_attention_layernorm.weight"))?,
            gate: load.linear(&format!("{name}.mlp.gate_proj"))?,
            up: load.linear(&format!("{name}.mlp.up_proj"))?,
            down: load.linear(&format!("{name}.mlp.down_proj"))?,
        })
    }
}

/// Reads tensors of a stage by their published names, and converts them to dense tensors of `dtype` on `device`.
struct Loader<'a> {
    weights: &'a mut Weights,
    dtype: DType,
    device: &'a Device,
}

impl Loader<'_> {
    /// Reads a linear layer. Its bias is optional.
    fn linear(&mut self, name: &str) -> Result<Linear, Error> {
        let bias = format!("{name}.bias");
        let bias = if self.weights.has(&bias) { Some(self.tensor(&bias)?) } else { None };
        Ok(Linear::from_weights(self.tensor(&format!("{name}.weight"))?, bias))
    }

    fn tensor(&mut self, name: &str) -> Result<Tensor, Error> {
        let stored = self.weights.get(name)?.dense()?;
        Ok(stored.to_dtype(self.dtype)?.to_device(self.device)?)
    }
}
