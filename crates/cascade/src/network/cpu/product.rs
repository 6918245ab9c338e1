//! Products of quantised weights with int8 rows.
//!
//! Dot products of 32 are exact in i32; their sums run in f32 over the blocks in order. So a row's result does not
//! depend on the rows beside it, on threads or on the CPU.

use std::ops::Range;

use rayon::prelude::*;

use super::kv::ValueBlock;
use super::rows::{Panels, Rows};
use super::simd::{Isa, LANES, Simd, kernel};
use super::weight::{Block, Blocks, Weight};

impl Weight {
    /// Number of tiles of 16 outputs.
    pub(super) fn tiles(&self) -> usize {
        self.outputs / LANES
    }

    /// `x W^T + b` as panels; tiles are computed on several threads in runs of `run`.
    pub(super) fn product(&self, isa: Isa, x: &Rows, run: usize, out: &mut Panels) {
        let panels = out.par_chunks_exact_mut(x.count).enumerate();
        panels.with_min_len(run).for_each(|(tile, panel)| self.panel(isa, tile, x, panel));
    }

    /// One tile of the product: `panel[row]` gets 16 outputs.
    pub(super) fn panel(&self, isa: Isa, tile: usize, x: &Rows, panel: &mut Panels) {
        let blocks = tile * x.blocks..(tile + 1) * x.blocks;
        let bias = self.bias.as_ref().map_or(&[0.0; LANES], |bias| &bias.as_chunks().0[tile]);
        match &self.blocks {
            Blocks::Q4(all) => q4_panel(isa, &all[blocks], bias, x, panel),
            Blocks::Q8(all) => q8_panel(isa, &all[blocks], bias, x, panel),
        }
    }
}

kernel! {
    fn q4_panel(blocks: &[Block<4>], bias: &[f32; LANES], x: &Rows, panel: &mut Panels) = panel_body;
}

kernel! {
    fn q8_panel(blocks: &[Block<8>], bias: &[f32; LANES], x: &Rows, panel: &mut Panels) = panel_body;
}

/// A block as the kernel reads it.
pub(super) trait Dot {
    /// What the products of 32 columns are to begin at, since its values are too large by a power of two; given -128
    /// times the sum of the row's values.
    fn offset(by_128: i32) -> i32;

    /// Adds to `sums`, one a row, the products of 32 columns with `x`.
    fn dot<S: Simd, const M: usize>(&self, simd: S, sums: &mut [S::Sums; M], x: [&[i8; 32]; M]);

    /// Scales of the outputs; `None`: all one.
    fn scales<S: Simd>(&self, simd: S) -> Option<S::Floats>;
}

impl Dot for Block<4> {
    #[inline(always)]
    fn offset(by_128: i32) -> i32 {
        // A multiple of 128: this is exact.
        by_128 >> 4
    }

    #[inline(always)]
    fn dot<S: Simd, const M: usize>(&self, simd: S, sums: &mut [S::Sums; M], x: [&[i8; 32]; M]) {
        for (i, bytes) in self.bytes.iter().enumerate() {
            let [low, high] = simd.nibbles(simd.bytes(bytes));
            for m in 0..M {
                sums[m] = simd.dot_nibbles(sums[m], low, x[m].as_chunks().0[2 * i]);
                sums[m] = simd.dot_nibbles(sums[m], high, x[m].as_chunks().0[2 * i + 1]);
            }
        }
    }

    #[inline(always)]
    fn scales<S: Simd>(&self, simd: S) -> Option<S::Floats> {
        Some(simd.load_f16(&self.scales))
    }
}

impl Dot for Block<8> {
    #[inline(always)]
    fn offset(by_128: i32) -> i32 {
        by_128
    }

    #[inline(always)]
    fn dot<S: Simd, const M: usize>(&self, simd: S, sums: &mut [S::Sums; M], x: [&[i8; 32]; M]) {
        dot_bytes(simd, &self.bytes, sums, x);
    }

    #[inline(always)]
    fn scales<S: Simd>(&self, simd: S) -> Option<S::Floats> {
        Some(simd.load_f16(&self.scales))
    }
}

impl Dot for ValueBlock {
    #[inline(always)]
    fn offset(by_128: i32) -> i32 {
        by_128
    }

    #[inline(always)]
    fn dot<S: Simd, const M: usize>(&self, simd: S, sums: &mut [S::Sums; M], x: [&[i8; 32]; M]) {
        dot_bytes(simd, &self.bytes, sums, x);
    }

    #[inline(always)]
    fn scales<S: Simd>(&self, _: S) -> Option<S::Floats> {
        None
    }
}

#[inline(always)]
fn dot_bytes<S: Simd, const M: usize>(
    simd: S,
    bytes: &[[u8; 4 * LANES]; 8],
    sums: &mut [S::Sums; M],
    x: [&[i8; 32]; M],
) {
    for (i, bytes) in bytes.iter().enumerate() {
        let bytes = simd.bytes(bytes);
        for m in 0..M {
            sums[m] = simd.dot_bytes(sums[m], bytes, x[m].as_chunks().0[i]);
        }
    }
}

#[inline(always)]
fn panel_body<S: Simd, B: Dot>(simd: S, blocks: &[B], bias: &[f32; LANES], x: &Rows, panel: &mut Panels) {
    assert!(panel.len() == x.count);
    let (bias, one) = (simd.load(bias), simd.splat(1.0));
    each_row(simd, blocks, x, |row, total| simd.store(simd.fma(total, one, bias), &mut panel[row]));
}

/// The products of every row of `x` with a tile, handed to `give` with the row's number.
#[inline(always)]
pub(super) fn each_row<S: Simd, B: Dot>(simd: S, blocks: &[B], x: &Rows, give: impl FnMut(usize, S::Floats)) {
    each_row_of(simd, blocks, x, 0..x.count, give);
}

/// The products of these rows of `x` with a tile.
#[inline(always)]
pub(super) fn each_row_of<S: Simd, B: Dot>(
    simd: S,
    blocks: &[B],
    x: &Rows,
    of: Range<usize>,
    mut give: impl FnMut(usize, S::Floats),
) {
    assert!(x.blocks == blocks.len() && of.end <= x.count);
    let Range { start: mut row, end } = of;
    if S::ROWS >= 8 {
        while row + 8 <= end {
            rows::<S, B, 8>(simd, blocks, x, row, &mut give);
            row += 8;
        }
    }
    if S::ROWS >= 4 {
        while row + 4 <= end {
            rows::<S, B, 4>(simd, blocks, x, row, &mut give);
            row += 4;
        }
    }
    while row + 2 <= end {
        rows::<S, B, 2>(simd, blocks, x, row, &mut give);
        row += 2;
    }
    if row < end {
        rows::<S, B, 1>(simd, blocks, x, row, &mut give);
    }
}

/// `M` rows from `first` on.
#[inline(always)]
fn rows<S: Simd, B: Dot, const M: usize>(
    simd: S,
    blocks: &[B],
    x: &Rows,
    first: usize,
    give: &mut impl FnMut(usize, S::Floats),
) {
    // Loops, where closures would be calls without the instructions of `S`.
    let mut of_row = [&x.rounded[..0]; M];
    for (m, row) in of_row.iter_mut().enumerate() {
        *row = &x.rounded[(first + m) * blocks.len()..][..blocks.len()];
    }
    let mut totals = [simd.splat(0.0); M];
    for (i, block) in blocks.iter().enumerate() {
        let (mut sums, mut values) = ([simd.sums(0); M], [&[0; 32]; M]);
        for m in 0..M {
            sums[m] = simd.sums(B::offset(of_row[m][i].offset));
            values[m] = &of_row[m][i].values;
        }
        block.dot(simd, &mut sums, values);
        let weights = block.scales(simd);
        for m in 0..M {
            let scale = simd.splat(of_row[m][i].scale);
            let scale = weights.map_or(scale, |weights| simd.mul(weights, scale));
            totals[m] = simd.fma(simd.floats(sums[m]), scale, totals[m]);
        }
    }
    for (m, total) in totals.into_iter().enumerate() {
        give(first + m, total);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor};

    use super::*;

    /// Numbers that look random, from -1 to 1.
    fn noise(count: usize, mut seed: u32) -> Vec<f32> {
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn product(weight: &Weight, isa: Isa, x: &[f32]) -> Vec<f32> {
        let mut rows = Rows::default();
        rows.round(isa, x, weight.inputs);
        let mut panels = vec![[0.0; LANES]; weight.tiles() * rows.count];
        weight.product(isa, &rows, 1, &mut panels);
        let value = |row: usize, out: usize| panels[out / LANES * rows.count + row][out % LANES];
        (0..rows.count).flat_map(|row| (0..weight.outputs).map(move |out| value(row, out))).collect()
    }

    #[test]
    fn every_cpu_computes_the_same_bits_near_the_exact_product() {
        let (outputs, inputs, count) = (48, 96, 29);
        for dtype in [GgmlDType::Q4_0, GgmlDType::Q8_0] {
            let dense =
                Tensor::from_vec(noise(outputs * inputs, 1), (outputs, inputs), &Device::Cpu).unwrap();
            let stored = QTensor::quantize(&dense, dtype).unwrap();
            let exact = stored.dequantize(&Device::Cpu).unwrap();
            let x = noise(count * inputs, 2);
            let rows = Tensor::from_vec(x.clone(), (count, inputs), &Device::Cpu).unwrap();
            let exact_product = rows.matmul(&exact.t().unwrap()).unwrap();
            let exact_product = exact_product.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let bias = noise(outputs, 3);
            let packed = Weight::pack(&[&stored], Some(bias.clone())).unwrap();
            let exact = exact.to_vec2::<f32>().unwrap();
            for (number, exact) in exact.iter().enumerate() {
                let mut row = vec![0.0; inputs];
                packed.row(number, &mut row);
                assert_eq!(row, *exact);
            }
            let all = Isa::all();
            let (_, portable) = all.last().unwrap();
            let portable = product(&packed, *portable, &x);
            for (i, (ours, exact)) in portable.iter().zip(&exact_product).enumerate() {
                assert!((ours - exact - bias[i % outputs]).abs() < 0.1, "{i}: {ours} {exact}");
            }
            for (name, isa) in all {
                assert_eq!(product(&packed, isa, &x), portable, "{name}");
                for row in 0..count {
                    let alone = product(&packed, isa, &x[row * inputs..(row + 1) * inputs]);
                    assert_eq!(alone, portable[row * outputs..(row + 1) * outputs], "{name}");
                }
            }
        }
    }
}
