//! Rows of activations in int8, with a scale per 32 values as the weights have one.

use super::simd::{Isa, LANES, Rounded, Simd, kernel};
use super::weight::BLOCK;

/// What a product writes: `panels[tile * rows + row]` holds outputs `16 tile` to `16 tile + 15` of a row, so that tiles
/// can be computed side by side.
pub(super) type Panels = [[f32; LANES]];

/// Rows of activations.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) count: usize,
    /// Blocks of 32 values in a row.
    pub(super) blocks: usize,
    /// `[count][blocks]`
    pub(super) rounded: Vec<Rounded>,
}

impl Rows {
    /// Makes room for `count` rows of `width` values.
    pub(super) fn resize(&mut self, count: usize, width: usize) {
        (self.count, self.blocks) = (count, width / BLOCK);
        self.rounded.resize(count * self.blocks, Rounded::default());
    }

    /// Rounds `x`, rows of `width` values.
    pub(super) fn round(&mut self, isa: Isa, x: &[f32], width: usize) {
        self.resize(x.len() / width, width);
        round_rows(isa, x.as_chunks().0, self);
    }

    /// Rounds panels of `count` rows of `width` values.
    pub(super) fn round_panels(&mut self, isa: Isa, panels: &Panels, count: usize, width: usize) {
        self.resize(count, width);
        round_panels(isa, panels, self);
    }
}

kernel! {
    fn round_rows(x: &[[f32; BLOCK]], rows: &mut Rows) = round_rows_body;
}

kernel! {
    fn round_panels(panels: &Panels, rows: &mut Rows) = round_panels_body;
}

#[inline(always)]
fn round_rows_body<S: Simd>(simd: S, x: &[[f32; BLOCK]], rows: &mut Rows) {
    round_blocks(simd, x, 0, rows);
}

#[inline(always)]
fn round_panels_body<S: Simd>(simd: S, panels: &Panels, rows: &mut Rows) {
    for block in 0..rows.blocks {
        for row in 0..rows.count {
            let half = |i: usize| simd.load(&panels[(2 * block + i) * rows.count + row]);
            simd.round_block([half(0), half(1)], &mut rows.rounded[row * rows.blocks + block]);
        }
    }
}

/// 32 values as the kernels take them.
#[inline(always)]
pub(super) fn load<S: Simd>(simd: S, x: &[f32; BLOCK]) -> [S::Floats; 2] {
    let halves = x.as_chunks().0;
    [simd.load(&halves[0]), simd.load(&halves[1])]
}

/// Rounds blocks of 32 values, which become those from `at` on of `rows`.
#[inline(always)]
pub(super) fn round_blocks<S: Simd>(simd: S, x: &[[f32; BLOCK]], at: usize, rows: &mut Rows) {
    let (many, rest) = x.as_chunks();
    let (to, to_rest) = rows.rounded[at..at + x.len()].as_chunks_mut();
    for (x, to) in many.iter().zip(to) {
        simd.round_blocks(x, to);
    }
    for (x, to) in rest.iter().zip(to_rest) {
        simd.round_block(load(simd, x), to);
    }
}

/// Rounds 32 values to int8, where `most`, which no magnitude exceeds, becomes 127.
#[inline(always)]
pub(super) fn round<S: Simd>(simd: S, x: [S::Floats; 2], most: f32, to: &mut [i8; BLOCK]) {
    let steps = simd.splat(if most > 0.0 { 127.0 / most } else { 0.0 });
    simd.round([simd.mul(x[0], steps), simd.mul(x[1], steps)], to);
}
