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
    /// The sum of each block's values.
    pub(super) sums: Vec<i32>,
}

impl Rows {
    /// Makes room for `count` rows of `width` values.
    pub(super) fn resize(&mut self, count: usize, width: usize) {
        (self.count, self.blocks) = (count, width / BLOCK);
        self.values.resize(count * self.blocks, [0; BLOCK]);
        self.scales.resize(count * self.blocks, 0.0);
        self.sums.resize(count * self.blocks, 0);
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
fn round_rows_body<S: Simd>(_: S, x: &[[f32; BLOCK]], rows: &mut Rows) {
    for (i, x) in x.iter().enumerate() {
        round_block(x, i, rows);
    }
}

#[inline(always)]
fn round_panels_body<S: Simd>(_: S, panels: &Panels, rows: &mut Rows) {
    let mut x = [0.0; BLOCK];
    for block in 0..rows.blocks {
        for row in 0..rows.count {
            x[..LANES].copy_from_slice(&panels[2 * block * rows.count + row]);
            x[LANES..].copy_from_slice(&panels[(2 * block + 1) * rows.count + row]);
            round_block(&x, row * rows.blocks + block, rows);
        }
    }
}

#[inline(always)]
pub(super) fn round_block(x: &[f32; BLOCK], at: usize, rows: &mut Rows) {
    (rows.scales[at], rows.sums[at]) = round_values(x, &mut rows.values[at]);
}

/// Rounds 32 values to int8, and returns their scale and the sum of what they were rounded to.
#[inline(always)]
pub(super) fn round_values(x: &[f32; BLOCK], rounded: &mut [i8; BLOCK]) -> (f32, i32) {
    /// Adding it rounds to a whole number, ties to even, and leaves that in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let (low, high) = (&x.as_chunks::<LANES>().0[0], &x.as_chunks::<LANES>().0[1]);
    let mut most = [0.0f32; LANES];
    for lane in 0..LANES {
        most[lane] = low[lane].abs().max(high[lane].abs());
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            most[lane] = most[lane].max(most[lane + half]);
        }
        half /= 2;
    }
    let most = most[0];
    let steps = if most > 0.0 { 127.0 / most } else { 0.0 };
    let mut sums = [0; LANES];
    for (x, values) in x.as_chunks::<LANES>().0.iter().zip(rounded.as_chunks_mut::<LANES>().0) {
        for lane in 0..LANES {
            let rounded = (x[lane] * steps + ROUND).to_bits() as i8;
            values[lane] = rounded;
            sums[lane] += i32::from(rounded);
        }
    }
    (most / 127.0, sums.iter().sum())
}
