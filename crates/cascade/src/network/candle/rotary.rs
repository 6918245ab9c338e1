//! Rotary position embedding with position ids given by hand; halves are rotated, as in Qwen2.

use candle_core::Tensor;
use candle_nn::rotary_emb::rope_thd;

use crate::Error;
use crate::checkpoint::NetworkConfig;

/// The frequencies of a network.
pub(super) struct Rotary {
    frequencies: Vec<f32>,
}

/// Cosines and sines of one forward pass's rows.
pub(super) struct Turns {
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    pub(super) fn new(config: &NetworkConfig) -> Self {
        let dim = config.head_dim();
        let frequency = |i| 1.0 / config.rope_theta.powf((2 * i) as f32 / dim as f32);
        Self { frequencies: (0..dim / 2).map(frequency).collect() }
    }

    /// The turns of rows with these position ids, for hidden states like `hidden`.
    pub(super) fn turns(&self, positions: &[u32], hidden: &Tensor) -> Result<Turns, Error> {
        let angle = |&position: &u32| self.frequencies.iter().map(move |f| position as f32 * f);
        let (sin, cos): (Vec<f32>, Vec<f32>) = positions.iter().flat_map(angle).map(f32::sin_cos).unzip();
        let shape = (positions.len(), self.frequencies.len());
        let tensor = |values| Tensor::from_vec(values, shape, hidden.device())?.to_dtype(hidden.dtype());
        Ok(Turns { cos: tensor(cos)?, sin: tensor(sin)? })
    }
}

impl Turns {
    /// Turns `x` `[rows, heads * dim]` head by head.
    pub(super) fn apply(&self, x: &Tensor, heads: usize) -> Result<Tensor, Error> {
        let (rows, width) = x.dims2()?;
        let x = x.reshape((1, rows, heads, width / heads))?;
        Ok(rope_thd(&x, &self.cos, &self.sin)?.reshape((rows, width))?)
    }
}
