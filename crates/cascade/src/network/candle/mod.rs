//! The network with candle's operations: dense or dequantised weights, in f32 on a CPU. Tests compare the other
//! backends with it.

mod attention;
mod rotary;

use candle_core::{DType, Device, Tensor};
use candle_nn::{Embedding, Module};
use candle_transformers::models::with_tracing::Linear;

use super::{Argmax, Heads, Input, InputLayer, KvCache, KvCapacity, Layers, Pattern, Sequence};
use crate::Error;
use crate::checkpoint::{NetworkConfig, Weights};
pub(super) use attention::LayerCache;
use rotary::Rotary;

/// Maximum rows whose logits are computed at once: 16 MiB for the default model.
const LOGIT_ROWS_MAX: usize = 256;

/// A Qwen2 network whose weights are dense f32 tensors.
pub(super) struct Network {
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: Tensor,
    lm_head: Linear,
    rotary: Rotary,
    heads: Heads,
    config: NetworkConfig,
    input: TensorInputLayer,
    /// Ids that the argmax excludes.
    masked: Vec<u32>,
}

/// The stage's own input layer.
enum TensorInputLayer {
    /// `[latent_token_len, hidden]`
    Queries(Tensor),
    /// Weight `[hidden, latent width]` and bias `[hidden]`.
    Projector { weight: Tensor, bias: Tensor },
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
    /// Loads the weights of a stage.
    pub(super) fn load(
        weights: &mut Weights,
        config: &NetworkConfig,
        input: InputLayer,
        masked: Vec<u32>,
    ) -> Result<Self, Error> {
        let mut load = Loader { weights };
        let table = load.tensor("model.embed_tokens.weight")?;
        let lm_head = match load.weights.has("lm_head.weight") {
            true => load.linear("lm_head")?,
            false => Linear::from_weights(table.clone(), None),
        };
        let layers = (0..config.layers).map(|i| Layer::load(&mut load, &format!("model.layers.{i}")));
        let layers = layers.collect::<Result<_, _>>()?;
        let input = match input {
            InputLayer::Queries(rows) => TensorInputLayer::Queries(matrix(rows, config.hidden)?),
            InputLayer::Projector { weight, bias } => {
                let width = weight.len() / bias.len();
                TensorInputLayer::Projector { weight: matrix(weight, width)?, bias: Tensor::new(bias, &Device::Cpu)? }
            }
        };
        Ok(Self {
            embedding: Embedding::new(table, config.hidden),
            layers,
            norm: load.tensor("model.norm.weight")?,
            lm_head,
            rotary: Rotary::new(config),
            heads: Heads { query: config.heads, key: config.kv_heads, dim: config.head_dim() },
            config: config.clone(),
            input,
            masked,
        })
    }

    /// Returns the input rows of a pass, `[rows, hidden]`.
    fn input(&self, pass: &[Sequence<'_>]) -> Result<Tensor, Error> {
        let mut rows = Vec::new();
        for input in pass.iter().flat_map(|sequence| &sequence.input) {
            rows.push(match (input, &self.input) {
                (Input::Tokens(ids), _) => self.embedding.forward(&Tensor::new(ids.as_slice(), &Device::Cpu)?)?,
                (Input::Latents(latents), _) => self.projected(latents)?,
                (Input::Queries(count), TensorInputLayer::Queries(queries)) => queries.narrow(0, 0, *count)?,
                (Input::Queries(_), TensorInputLayer::Projector { .. }) => return Err(super::no_queries()),
            });
        }
        Ok(Tensor::cat(&rows, 0)?)
    }

    /// Projects latents, `[count][latent width]`, to `[count, hidden]`.
    fn projected(&self, latents: &[f32]) -> Result<Tensor, Error> {
        match &self.input {
            TensorInputLayer::Projector { weight, bias } => {
                let latents = matrix(latents.to_vec(), weight.dim(1)?)?;
                Ok(latents.matmul(&weight.t()?)?.broadcast_add(bias)?)
            }
            TensorInputLayer::Queries(_) => Err(super::no_projector()),
        }
    }

    /// Runs the layers and the final norm on `hidden`, `[rows, hidden]`.
    fn forward(&self, mut hidden: Tensor, pass: &mut [Sequence<'_>]) -> Result<Tensor, Error> {
        let positions: Vec<u32> = pass.iter().flat_map(|sequence| &sequence.positions).copied().collect();
        let rotary = self.rotary.table(&positions)?;
        let masks: Vec<Tensor> = pass.iter().map(attention::mask).collect::<Result<_, _>>()?;
        for (number, layer) in self.layers.iter().enumerate() {
            let normed = self.rms_norm(&hidden, &layer.input_norm)?;
            let q = rotary.apply(&layer.q.forward(&normed)?, self.heads.query)?;
            let k = rotary.apply(&layer.k.forward(&normed)?, self.heads.key)?;
            let v = layer.v.forward(&normed)?;
            let mixed = self.attend(number, pass, &masks, [&q, &k, &v])?;
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
            let new = sequence.rows();
            let rows = |x: &Tensor| x.narrow(0, first, new);
            let [keys, values] = sequence.cache.candle_mut()[layer].append(&rows(k)?, &rows(v)?)?;
            mixed.push(attention::attend(&rows(q)?, &keys, &values, mask, self.heads)?);
            first += new;
        }
        Ok(Tensor::cat(&mixed, 0)?)
    }

    /// Returns the logits of `rows`, `[rows][hidden]`, in host memory.
    fn logits_of(&self, rows: &[f32]) -> Result<Vec<f32>, Error> {
        let rows = matrix(rows.to_vec(), self.config.hidden)?;
        Ok(self.lm_head.forward(&rows)?.flatten_all()?.to_vec1()?)
    }

    fn rms_norm(&self, hidden: &Tensor, weight: &Tensor) -> Result<Tensor, Error> {
        Ok(candle_nn::ops::rms_norm(hidden, weight, self.config.rms_norm_eps)?)
    }
}

impl super::Network for Network {
    fn arithmetic(&self) -> String {
        format!("candle-0.11/{}/f32", std::env::consts::ARCH)
    }

    fn kv_row_bytes(&self) -> usize {
        self.layers.len() * 2 * self.heads.key * self.heads.dim * size_of::<f32>()
    }

    /// Ignores `capacity`: the tensors grow with every pass.
    fn cache(&self, _: KvCapacity, prefix: Option<&KvCache>) -> Result<KvCache, Error> {
        let (layers, rows) = match prefix {
            Some(prefix) => (prefix.candle().to_vec(), prefix.rows),
            None => (vec![LayerCache::default(); self.layers.len()], 0),
        };
        Ok(KvCache { layers: Layers::Candle(layers), rows })
    }

    fn hidden(&self, pass: &mut [Sequence<'_>]) -> Result<Vec<f32>, Error> {
        let hidden = self.forward(self.input(pass)?, pass)?;
        super::advance(pass);
        Ok(super::outputs(pass, &hidden.flatten_all()?.to_vec1()?, self.config.hidden))
    }

    fn argmax(&self, pass: &mut [Sequence<'_>], targets: Option<&[u32]>) -> Result<Vec<Argmax>, Error> {
        let hidden = self.hidden(pass)?;
        let mut argmax = Vec::with_capacity(hidden.len() / self.config.hidden);
        for rows in hidden.chunks(LOGIT_ROWS_MAX * self.config.hidden) {
            for logits in self.logits_of(rows)?.chunks_exact_mut(self.config.vocabulary) {
                self.masked.iter().for_each(|&id| logits[id as usize] = f32::NEG_INFINITY);
                argmax.push(Argmax::of(logits, targets.map(|ids| ids[argmax.len()])));
            }
        }
        Ok(argmax)
    }

    fn logits(&self, pass: &mut [Sequence<'_>]) -> Result<Vec<f32>, Error> {
        self.logits_of(&self.hidden(pass)?)
    }

    fn project(&self, latents: &[f32]) -> Result<Vec<f32>, Error> {
        Ok(self.projected(latents)?.flatten_all()?.to_vec1()?)
    }
}

fn matrix(values: Vec<f32>, width: usize) -> Result<Tensor, Error> {
    let rows = values.len() / width;
    Ok(Tensor::from_vec(values, (rows, width), &Device::Cpu)?)
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

/// Reads tensors of a stage by their published names, as f32.
struct Loader<'a> {
    weights: &'a mut Weights,
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
        Ok(stored.to_dtype(DType::F32)?)
    }
}
