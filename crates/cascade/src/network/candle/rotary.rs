//! Rotary position embedding with explicit position ids. The two halves of each head form pairs, as in Qwen2.

use candle_core::{Device, Tensor};
use candle_nn::rotary_emb::rope_thd;

use crate::Error;
use crate::checkpoint::NetworkConfig;

pub(super) struct Rotary {
    frequencies: Vec<f32>,
}

/// Cosines and sines for the rows of a forward pass: `[rows, dim / 2]` each.
pub(super) struct RotaryTable {
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    pub(super) fn new(config: &NetworkConfig) -> Self {
        let dim = config.head_dim();
        let frequency = |i| 1.0 / config.rope_theta.powf((2 * i) as f32 / dim as f32);
        Self { frequencies: (0..dim / 2).map(frequency).collect() }
    }

    /// Returns the table for rows with the position ids `positions`.
    pub(super) fn table(&self, positions: &[u32]) -> Result<RotaryTable, Error> {
        let angle = |&position: &u32| self.frequencies.iter().map(move |f| position as f32 * f);
        let (sin, cos): (Vec<f32>, Vec<f32>) = positions.iter().flat_map(angle).map(f32::sin_cos).unzip();
        let shape = (positions.len(), self.frequencies.len());
        let tensor = |values| Tensor::from_vec(values, shape, &Device::Cpu);
        Ok(RotaryTable { cos: tensor(cos)?, sin: tensor(sin)? })
    }
}

impl RotaryTable {
    /// Rotates each head of `x`, `[rows, heads * dim]`.
    pub(super) fn apply(&self, x: &Tensor, heads: usize) -> Result<Tensor, Error> {
        let (rows, width) = x.dims2()?;
        let x = x.reshape((1, rows, heads, width / heads))?;
        Ok(rope_thd(&x, &self.cos, &self.sin)?.reshape((rows, width))?)
    }
}
