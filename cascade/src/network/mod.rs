//! The Qwen2 network, once for both stages and both checkpoint layouts, for dense and quantised weights.
//!
//! A forward pass takes rows of hidden states, packed without padding: runs of rows of several sequences one after the
//! other. Norms and products act on all rows at once; attention alone knows where a sequence begins and what each of
//! its rows sees. Follows Qwen2 as in transformers 4.49, which the published code runs on.

mod attention;
mod cache;
mod cpu;
mod exp;
mod int8;
mod linear;
mod rotary;
mod swiglu;

use candle_core::quantized::QMatMul;
use candle_core::{D, DType, Tensor};

use crate::Error;
use crate::checkpoint::{Checkpoint, NetworkConfig};
use crate::device::Numbers;
use attention::Heads;
pub(crate) use attention::Pattern;
pub(crate) use cache::KvCache;
pub(crate) use linear::Projector;
use linear::{Input, Linear};
use rotary::Rotary;

/// A run of new rows of one sequence.
pub(crate) struct Sequence<'a> {
    /// Keys and values of the rows before; the new ones are appended.
    pub(crate) cache: &'a mut KvCache,
    /// Number of new rows.
    pub(crate) rows: usize,
    /// What each row sees.
    pub(crate) pattern: Pattern,
}

/// A Qwen2 network.
pub(crate) struct Qwen2 {
    embedding: QMatMul,
    layers: Vec<Layer>,
    norm: Tensor,
    head: Linear,
    rotary: Rotary,
    heads: Heads,
    config: NetworkConfig,
    numbers: Numbers,
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

impl Qwen2 {
    /// Reads the weights of the stage that was opened.
    pub(crate) fn load(checkpoint: &mut Checkpoint) -> Result<Self, Error> {
        let config = checkpoint.network.clone();
        let mut load = linear::Loader {
            weights: &mut checkpoint.weights,
            numbers: checkpoint.numbers,
            device: &checkpoint.device,
        };
        let embedding = load.table("model.embed_tokens")?;
        let head = if load.weights.has("lm_head.weight") { "lm_head" } else { "model.embed_tokens" };
        let head = load.linear(head)?;
        let layers = (0..config.layers).map(|i| Layer::load(&mut load, &format!("model.layers.{i}")));
        let layers = layers.collect::<Result<_, _>>()?;
        let norm = load.vector("model.norm.weight")?;
        Ok(Self {
            embedding,
            layers,
            norm,
            head,
            rotary: Rotary::new(&config),
            heads: Heads { query: config.heads, key: config.kv_heads, dim: config.head_dim() },
            numbers: checkpoint.numbers,
            config,
        })
    }

    /// Width of a hidden state.
    pub(crate) fn hidden(&self) -> usize {
        self.config.hidden
    }

    /// An empty cache for one sequence.
    pub(crate) fn cache(&self) -> KvCache {
        KvCache::new(self.layers.len(), self.norm.device())
    }

    /// Rows of the token table: `[ids, hidden]`.
    pub(crate) fn embed(&self, ids: &[u32]) -> Result<Tensor, Error> {
        let ids = Tensor::new(ids, self.norm.device())?;
        Ok(self.embedding.embedding(&ids)?.to_dtype(self.numbers.dtype())?)
    }

    /// Runs `hidden` `[rows, hidden]`, the new rows of all sequences in order, and returns the hidden states after the
    /// final norm, `[rows, hidden]`. `positions` are the rows' position ids.
    pub(crate) fn forward(
        &self,
        hidden: Tensor,
        positions: &[u32],
        sequences: &mut [Sequence<'_>],
    ) -> Result<Tensor, Error> {
        let turns = self.rotary.turns(positions, &hidden)?;
        let plan = attention::Plan::new(sequences, &hidden)?;
        let mut hidden = hidden;
        for (number, layer) in self.layers.iter().enumerate() {
            let normed = self.rms_norm(&hidden, &layer.input_norm)?;
            let input = Input::new(&normed, self.numbers)?;
            let q = turns.apply(&layer.q.forward(&input)?, self.heads.query)?;
            let k = turns.apply(&layer.k.forward(&input)?, self.heads.key)?;
            let v = layer.v.forward(&input)?;
            let mixed = plan.attend(number, sequences, self.heads, [&q, &k, &v])?;
            hidden = (hidden + layer.o.forward(&Input::new(&mixed, self.numbers)?)?)?;
            let normed = self.rms_norm(&hidden, &layer.mlp_norm)?;
            let input = Input::new(&normed, self.numbers)?;
            let gated = swiglu::swiglu(&layer.gate.forward(&input)?, &layer.up.forward(&input)?)?;
            hidden = (hidden + layer.down.forward(&Input::new(&gated, self.numbers)?)?)?;
        }
        for sequence in sequences.iter_mut() {
            sequence.cache.grew(sequence.rows);
        }
        self.rms_norm(&hidden, &self.norm)
    }

    /// Logits of hidden states `[rows, hidden]`, row after row on the host, `vocabulary` floats each.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Vec<f32>, Error> {
        let logits = self.head.forward(&Input::new(hidden, self.numbers)?)?;
        debug_assert_eq!(logits.dim(D::Minus1)?, self.config.vocabulary);
        Ok(logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }

    fn rms_norm(&self, hidden: &Tensor, weight: &Tensor) -> Result<Tensor, Error> {
        Ok(candle_nn::ops::rms_norm(hidden, weight, self.config.rms_norm_eps)?)
    }
}

impl Layer {
    fn load(load: &mut linear::Loader<'_>, name: &str) -> Result<Self, Error> {
        Ok(Self {
            input_norm: load.vector(&format!("{name}.input_layernorm.weight"))?,
            q: load.linear(&format!("{name}.self_attn.q_proj"))?,
            k: load.linear(&format!("{name}.self_attn.k_proj"))?,
            v: load.linear(&format!("{name}.self_attn.v_proj"))?,
            o: load.linear(&format!("{name}.self_attn.o_proj"))?,
            mlp_norm: load.vector(&format!("{name}.post_attention_layernorm.weight"))?,
            gate: load.linear(&format!("{name}.mlp.gate_proj"))?,
            up: load.linear(&format!("{name}.mlp.up_proj"))?,
            down: load.linear(&format!("{name}.mlp.down_proj"))?,
        })
    }
}
