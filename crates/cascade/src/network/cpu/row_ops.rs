//! Operations on single rows: RMSNorm, rotary position embedding, SwiGLU, residual additions.

use super::activations::Panels;
use super::exp::exp;
use super::simd::{Isa, LANES, Simd, kernel};

/// Returns the sum of 16 lanes, added pairwise as a balanced tree.
#[inline(always)]
pub(super) fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

kernel! {
    /// Computes RMSNorm of every row of `x`. A row is as wide as `weight`.
    pub(super) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) = norm_body;
}

#[inline(always)]
fn norm_body<S: Simd>(_: S, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    for (x, out) in x.chunks_exact(weight.len()).zip(out.chunks_exact_mut(weight.len())) {
        let mut squares = [0.0; LANES];
        for x in x.as_chunks::<LANES>().0 {
            for lane in 0..LANES {
                squares[lane] = x[lane].mul_add(x[lane], squares[lane]);
            }
        }
        let scale = 1.0 / (sum_lanes(squares) / weight.len() as f32 + epsilon).sqrt();
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = x * scale * weight;
        }
    }
}

/// Cosines and sines of the rotary position embedding: `[rows][half]` each, where `half` is `dim / 2`.
pub(super) struct RotaryTable {
    pub(super) cos: Vec<f32>,
    pub(super) sin: Vec<f32>,
    pub(super) half: usize,
}

impl RotaryTable {
    /// Rotates the heads `x` of row `row` in place. The two halves of each head form pairs, as in Qwen2.
    pub(super) fn apply(&self, isa: Isa, row: usize, x: &mut [f32]) {
        let range = row * self.half..(row + 1) * self.half;
        rotate(isa, &self.cos[range.clone()], &self.sin[range], x);
    }
}

kernel! {
    fn rotate(cos: &[f32], sin: &[f32], x: &mut [f32]) = rotate_body;
}

#[inline(always)]
fn rotate_body<S: Simd>(_: S, cos: &[f32], sin: &[f32], x: &mut [f32]) {
    for head in x.chunks_exact_mut(2 * cos.len()) {
        let (first, second) = head.split_at_mut(cos.len());
        for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
            (*a, *b) = ((-*b).mul_add(*sin, *a * cos), (*b).mul_add(*cos, *a * sin));
        }
    }
}

kernel! {
    /// Replaces `gate` with `silu(gate) * up`.
    pub(super) fn swiglu(gate: &mut Panels, up: &Panels) = swiglu_body;
}

#[inline(always)]
fn swiglu_body<S: Simd>(_: S, gate: &mut Panels, up: &Panels) {
    for (gate, up) in gate.iter_mut().zip(up) {
        for lane in 0..LANES {
            let x = gate[lane];
            let e = exp(-x.abs());
            let sigmoid = if x >= 0.0 { 1.0 } else { e } / (1.0 + e);
            gate[lane] = x * sigmoid * up[lane];
        }
    }
}

/// Adds `panels` to `rows`, `[rows][width]`.
pub(super) fn add_panels(panels: &Panels, rows: &mut [f32], width: usize) {
    let count = rows.len() / width;
    for (number, row) in rows.chunks_exact_mut(width).enumerate() {
        for (tile, x) in row.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            for (x, add) in x.iter_mut().zip(panels[tile * count + number]) {
                *x += add;
            }
        }
    }
}

/// Copies `panels` to `rows`, `[rows][width]`.
pub(super) fn copy_panels(panels: &Panels, rows: &mut [f32], width: usize) {
    let count = rows.len() / width;
    for (number, row) in rows.chunks_exact_mut(width).enumerate() {
        for (tile, x) in row.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            *x = panels[tile * count + number];
        }
    }
}
