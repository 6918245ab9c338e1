//! Weights of a transformer layer.

use cudarc::driver::CudaSlice;

use crate::Error;
use crate::checkpoint::Weights;
use crate::network::cuda::Card;
use crate::network::cuda::weight::{Int8Weight, Order, vector};

/// A transformer layer.
pub(super) struct Layer {
    pub(super) input_norm: CudaSlice<f32>,
    pub(super) qkv: Int8Weight,
    pub(super) o: Int8Weight,
    pub(super) mlp_norm: CudaSlice<f32>,
    /// Gate and up projection, interleaved.
    pub(super) gate_up: Int8Weight,
    pub(super) down: Int8Weight,
}

impl Layer {
    /// Loads the transformer layer whose published name prefix is `name`.
    pub(super) fn load(card: &Card, weights: &mut Weights, name: &str) -> Result<Self, Error> {
        let stream = card.stream();
        let part = |part: &str| format!("{name}.{part}");
        let mut load = |names: &[&str], order| {
            let names: Vec<String> = names.iter().map(|name| part(name)).collect();
            Int8Weight::load(stream, weights, &names.iter().map(String::as_str).collect::<Vec<_>>(), order)
        };
        Ok(Self {
            qkv: load(&["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], Order::Consecutive)?,
            o: load(&["self_attn.o_proj"], Order::Consecutive)?,
            gate_up: load(&["mlp.gate_proj", "mlp.up_proj"], Order::Interleaved)?,
            down: load(&["mlp.down_proj"], Order::Consecutive)?,
            input_norm: stream.clone_htod(&vector(weights, &part("input_layernorm.weight"))?)?,
            mlp_norm: stream.clone_htod(&vector(weights, &part("post_attention_layernorm.weight"))?)?,
        })
    }
}
