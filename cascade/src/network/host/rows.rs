//! Rows of activations in int8, with a scale per 32 values as the weights have one.

use super::simd::{Isa, LANES, Simd, kernel};
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
    pub(super) values: Vec<[i8; BLOCK]>,
    pub(super) scales: Vec<f32>,
    /// -128 times the sum of each block's values.
    pub(super) offsets: Vec<i32>,
}

impl Rows {
    /// Makes room for `count` rows of `width` values.
    pub(super) fn resize(&mut self, count: usize, width: usize) {
        (self.count, self.blocks) = (count, width / BLOCK);
        self.values.resize(count * self.blocks, [0; BLOCK]);
        self.scales.resize(count * self.blocks, 0.0);
        self.offsets.resize(count * self.blocks, 0);
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
    for (i, x) in x.iter().enumerate() {
        round_block(simd, load(simd, x), i, rows);
    }
}

#[inline(always)]
fn round_panels_body<S: Simd>(simd: S, panels: &Panels, rows: &mut Rows) {
    for block in 0..rows.blocks {
        for row in 0..rows.count {
            let half = |i: usize| simd.load(&panels[(2 * block + i) * rows.count + row]);
            round_block(simd, [half(0), half(1)], row * rows.blocks + block, rows);
        }
    }
}

/// 32 values as the kernels take them.
#[inline(always)]
pub(super) fn load<S: Simd>(simd: S, x: &[f32; BLOCK]) -> [S::Floats; 2] {
    let halves = x.as_chunks().0;
    [simd.load(&halves[0]), simd.load(&halves[1])]
}

/// Rounds 32 values, which become block `at` of `rows`.
#[inline(always)]
pub(super) fn round_block<S: Simd>(simd: S, x: [S::Floats; 2], at: usize, rows: &mut Rows) {
    let most = simd.largest(x);
    // Side by side, so that a CPU divides once.
    let [scale, steps] = [[most, 127.0], [127.0, most]].map(|[above, below]| above / below);
    rows.scales[at] = scale;
    rows.offsets[at] = -128 * round_by(simd, x, if most > 0.0 { steps } else { 0.0 }, &mut rows.values[at]);
}

/// Rounds 32 values to int8, where `most`, which no magnitude exceeds, becomes 127, and returns their sum.
#[inline(always)]
pub(super) fn round<S: Simd>(simd: S, x: [S::Floats; 2], most: f32, to: &mut [i8; BLOCK]) -> i32 {
    round_by(simd, x, if most > 0.0 { 127.0 / most } else { 0.0 }, to)
}

#[inline(always)]
fn round_by<S: Simd>(simd: S, x: [S::Floats; 2], steps: f32, to: &mut [i8; BLOCK]) -> i32 {
    let steps = simd.splat(steps);
    simd.round([simd.mul(x[0], steps), simd.mul(x[1], steps)], to)
}
