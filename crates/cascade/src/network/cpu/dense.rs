//! Dense f32 linear layer, used for the projector only.

use rayon::prelude::*;

use super::simd::{Isa, LANES, Simd, kernel};

/// Computes `x W^T + b` in f32. Each output is a sum in the order of the columns, starting with the bias.
pub(crate) struct Dense {
    isa: Isa,
    /// `[outputs / 16][inputs][16]`
    tiles: Vec<[f32; LANES]>,
    bias: Vec<f32>,
    inputs: usize,
}

impl Dense {
    /// Packs `weight`, `[outputs][inputs]`. `outputs` must be a multiple of 16.
    pub(crate) fn new(isa: Isa, weight: &[f32], bias: Vec<f32>) -> Self {
        let inputs = weight.len() / bias.len();
        let lanes = |i: usize| {
            let (tile, column) = (i / inputs, i % inputs);
            std::array::from_fn(|lane| weight[(tile * LANES + lane) * inputs + column])
        };
        let tiles = (0..bias.len() / LANES * inputs).map(lanes).collect();
        Self { isa, tiles, bias, inputs }
    }

    /// Maps `x`, `[rows][inputs]`, to `[rows][outputs]`.
    pub(crate) fn forward(&self, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; x.len() / self.inputs * self.bias.len()];
        let rows = out.par_chunks_exact_mut(self.bias.len()).zip(x.par_chunks_exact(self.inputs));
        rows.for_each(|(out, x)| row(self.isa, &self.tiles, &self.bias, x, out));
        out
    }
}

kernel! {
    fn row(tiles: &[[f32; LANES]], bias: &[f32], x: &[f32], out: &mut [f32]) = row_body;
}

#[inline(always)]
fn row_body<S: Simd>(simd: S, tiles: &[[f32; LANES]], bias: &[f32], x: &[f32], out: &mut [f32]) {
    let outs = out.as_chunks_mut().0.iter_mut().zip(bias.as_chunks().0);
    for ((out, bias), tile) in outs.zip(tiles.chunks_exact(x.len())) {
        let mut total = simd.load(bias);
        for (x, weights) in x.iter().zip(tile) {
            total = simd.fma(simd.splat(*x), simd.load(weights), total);
        }
        simd.store(total, out);
    }
}
