//! The product with a small dense matrix: the projector's.

use rayon::prelude::*;

use super::simd::{Isa, LANES, Simd, kernel};

/// `x W^T + b` in f32, summed column after column.
pub(crate) struct Dense {
    isa: Isa,
    /// `[out / 16][in][16]`
    tiles: Vec<[f32; LANES]>,
    bias: Vec<f32>,
    inputs: usize,
}

impl Dense {
    /// `weight` is `[out, in]`, row after row; `out` a multiple of 16.
    pub(crate) fn new(isa: Isa, weight: &[f32], bias: Vec<f32>) -> Self {
        let inputs = weight.len() / bias.len();
        let lanes = |i: usize| {
            let (tile, column) = (i / inputs, i % inputs);
            std::array::from_fn(|lane| weight[(tile * LANES + lane) * inputs + column])
        };
        let tiles = (0..bias.len() / LANES * inputs).map(lanes).collect();
        Self { isa, tiles, bias, inputs }
    }

    /// Rows of `in` values to rows of `out`.
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
