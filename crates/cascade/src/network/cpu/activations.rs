//! Activations quantised to int8 with one scale per 32 values, like the weights.

use super::packed_weight::QUANT_BLOCK;
use super::simd::{ActivationBlock, Isa, LANES, Simd, kernel};

/// Output of a GEMM in tile-major order: `panels[tile * rows + row]` contains outputs `16 * tile` to `16 * tile + 15`
/// of row `row`. Each tile is contiguous, so that threads can compute tiles independently.
pub(super) type Panels = [[f32; LANES]];

/// A matrix of quantised activations.
#[derive(Default)]
pub(super) struct Activations {
    /// Number of rows.
    pub(super) count: usize,
    /// Quantisation blocks per row.
    pub(super) row_blocks: usize,
    /// `[count][row_blocks]`
    pub(super) blocks: Vec<ActivationBlock>,
}

impl Activations {
    /// Resizes to `count` rows of `width` values. The contents are unspecified afterwards.
    pub(super) fn resize(&mut self, count: usize, width: usize) {
        (self.count, self.row_blocks) = (count, width / QUANT_BLOCK);
        self.blocks.resize(count * self.row_blocks, ActivationBlock::default());
    }

    /// Quantises `x`, `[rows][width]`, and replaces the contents with the result.
    pub(super) fn quantise(&mut self, isa: Isa, x: &[f32], width: usize) {
        self.resize(x.len() / width, width);
        quantise_rows(isa, x.as_chunks().0, self);
    }

    /// Quantises `panels`, `count` rows of `width` values, and replaces the contents with the result.
    pub(super) fn quantise_panels(&mut self, isa: Isa, panels: &Panels, count: usize, width: usize) {
        self.resize(count, width);
        quantise_panels(isa, panels, self);
    }
}

kernel! {
    fn quantise_rows(x: &[[f32; QUANT_BLOCK]], to: &mut Activations) = quantise_rows_body;
}

kernel! {
    fn quantise_panels(panels: &Panels, to: &mut Activations) = quantise_panels_body;
}

#[inline(always)]
fn quantise_rows_body<S: Simd>(simd: S, x: &[[f32; QUANT_BLOCK]], to: &mut Activations) {
    quantise_blocks(simd, x, 0, to);
}

#[inline(always)]
fn quantise_panels_body<S: Simd>(simd: S, panels: &Panels, to: &mut Activations) {
    for block in 0..to.row_blocks {
        for row in 0..to.count {
            let half = |i: usize| simd.load(&panels[(2 * block + i) * to.count + row]);
            simd.quantise_block([half(0), half(1)], &mut to.blocks[row * to.row_blocks + block]);
        }
    }
}

/// Loads 32 values into two vectors.
#[inline(always)]
pub(super) fn load<S: Simd>(simd: S, x: &[f32; QUANT_BLOCK]) -> [S::F32s; 2] {
    let halves = x.as_chunks().0;
    [simd.load(&halves[0]), simd.load(&halves[1])]
}

/// Quantises `x` into the blocks of `to` that start at block `first`.
#[inline(always)]
pub(super) fn quantise_blocks<S: Simd>(simd: S, x: &[[f32; QUANT_BLOCK]], first: usize, to: &mut Activations) {
    let (many, rest) = x.as_chunks();
    let (to, to_rest) = to.blocks[first..first + x.len()].as_chunks_mut();
    for (x, to) in many.iter().zip(to) {
        simd.quantise_blocks(x, to);
    }
    for (x, to) in rest.iter().zip(to_rest) {
        simd.quantise_block(load(simd, x), to);
    }
}

/// Quantises 32 values with a scale that maps `max_abs` to 127. No value may exceed `max_abs` in magnitude.
#[inline(always)]
pub(super) fn quantise_by_max<S: Simd>(simd: S, x: [S::F32s; 2], max_abs: f32, to: &mut [i8; QUANT_BLOCK]) {
    let steps = simd.splat(if max_abs > 0.0 { 127.0 / max_abs } else { 0.0 });
    simd.quantise([simd.mul(x[0], steps), simd.mul(x[1], steps)], to);
}
