//! GEMM of packed quantised weights with int8 activations.
//!
//! Dot products of 32 columns are exact in i32. They are scaled and added in f32, in the order of the columns. The
//! result of a row is independent of the other rows, the number of threads and the CPU.

use std::ops::Range;

use rayon::prelude::*;

use super::activations::{Activations, Panels};
use super::kv_cache::ValueBlock;
use super::packed_weight::{PackedBlock, PackedBlocks, PackedWeight};
use super::simd::{Isa, LANES, Simd, kernel};

impl PackedWeight {
    /// Number of tiles. A tile has 16 outputs.
    pub(super) fn tiles(&self) -> usize {
        self.outputs / LANES
    }

    /// Computes `x W^T + b` into `out`, `[tile][row]`, in parallel tasks of at least `task_tiles` tiles.
    pub(super) fn gemm(&self, isa: Isa, x: &Activations, task_tiles: usize, out: &mut Panels) {
        let panels = out.par_chunks_exact_mut(x.count).enumerate();
        panels.with_min_len(task_tiles).for_each(|(tile, panel)| self.gemm_tile(isa, tile, x, panel));
    }

    /// Computes one tile of `x W^T + b`: 16 outputs of each row.
    pub(super) fn gemm_tile(&self, isa: Isa, tile: usize, x: &Activations, panel: &mut Panels) {
        let blocks = tile * x.row_blocks..(tile + 1) * x.row_blocks;
        let bias = self.bias.as_ref().map_or(&[0.0; LANES], |bias| &bias.as_chunks().0[tile]);
        match &self.blocks {
            PackedBlocks::Q4(all) => tile_q4(isa, &all[blocks], bias, x, panel),
            PackedBlocks::Q8(all) => tile_q8(isa, &all[blocks], bias, x, panel),
        }
    }
}

kernel! {
    fn tile_q4(blocks: &[PackedBlock<4>], bias: &[f32; LANES], x: &Activations, panel: &mut Panels) = tile_body;
}

kernel! {
    fn tile_q8(blocks: &[PackedBlock<8>], bias: &[f32; LANES], x: &Activations, panel: &mut Panels) = tile_body;
}

/// A block of 32 columns of 16 outputs. Its signed values are stored as unsigned values: an offset is added to each.
pub(super) trait DotBlock {
    /// Returns the initial accumulator, which cancels the offset of the stored values. `row_offset` is
    /// [`ActivationBlock::offset`](super::simd::ActivationBlock::offset): -128 times the sum of the 32 activations.
    fn offset(row_offset: i32) -> i32;

    /// Adds the dot product of each output with each of the `M` rows `x` to `sums`.
    fn dot<S: Simd, const M: usize>(&self, simd: S, sums: &mut [S::I32s; M], x: [&[i8; 32]; M]);

    /// Returns the scales of the outputs, or `None` if the block has no scales.
    fn scales<S: Simd>(&self, simd: S) -> Option<S::F32s>;
}

impl DotBlock for PackedBlock<4> {
    #[inline(always)]
    fn offset(row_offset: i32) -> i32 {
        // Nibbles have an offset of 8 = 128 / 16. The shift is exact, because `row_offset` is a multiple of 128.
        row_offset >> 4
    }

    #[inline(always)]
    fn dot<S: Simd, const M: usize>(&self, simd: S, sums: &mut [S::I32s; M], x: [&[i8; 32]; M]) {
        for (i, bytes) in self.bytes.iter().enumerate() {
            let [low, high] = simd.split_nibbles(simd.load_bytes(bytes));
            for m in 0..M {
                sums[m] = simd.dot_nibbles(sums[m], low, x[m].as_chunks().0[2 * i]);
                sums[m] = simd.dot_nibbles(sums[m], high, x[m].as_chunks().0[2 * i + 1]);
            }
        }
    }

    #[inline(always)]
    fn scales<S: Simd>(&self, simd: S) -> Option<S::F32s> {
        Some(simd.load_f16(&self.scales))
    }
}

impl DotBlock for PackedBlock<8> {
    #[inline(always)]
    fn offset(row_offset: i32) -> i32 {
        row_offset
    }

    #[inline(always)]
    fn dot<S: Simd, const M: usize>(&self, simd: S, sums: &mut [S::I32s; M], x: [&[i8; 32]; M]) {
        dot_bytes(simd, &self.bytes, sums, x);
    }

    #[inline(always)]
    fn scales<S: Simd>(&self, simd: S) -> Option<S::F32s> {
        Some(simd.load_f16(&self.scales))
    }
}

impl DotBlock for ValueBlock {
    #[inline(always)]
    fn offset(row_offset: i32) -> i32 {
        row_offset
    }

    #[inline(always)]
    fn dot<S: Simd, const M: usize>(&self, simd: S, sums: &mut [S::I32s; M], x: [&[i8; 32]; M]) {
        dot_bytes(simd, &self.bytes, sums, x);
    }

    #[inline(always)]
    fn scales<S: Simd>(&self, _: S) -> Option<S::F32s> {
        None
    }
}

#[inline(always)]
fn dot_bytes<S: Simd, const M: usize>(
    simd: S,
    bytes: &[[u8; 4 * LANES]; 8],
    sums: &mut [S::I32s; M],
    x: [&[i8; 32]; M],
) {
    for (i, bytes) in bytes.iter().enumerate() {
        let bytes = simd.load_bytes(bytes);
        for m in 0..M {
            sums[m] = simd.dot_bytes(sums[m], bytes, x[m].as_chunks().0[i]);
        }
    }
}

#[inline(always)]
fn tile_body<S: Simd, B: DotBlock>(simd: S, blocks: &[B], bias: &[f32; LANES], x: &Activations, panel: &mut Panels) {
    assert!(panel.len() == x.count);
    let (bias, one) = (simd.load(bias), simd.splat(1.0));
    for_each_row(simd, blocks, x, |row, total| simd.store(simd.fma(total, one, bias), &mut panel[row]));
}

/// Multiplies every row of `x` with the tile `blocks`. Calls `emit` with each row's index and result.
#[inline(always)]
pub(super) fn for_each_row<S: Simd, B: DotBlock>(
    simd: S,
    blocks: &[B],
    x: &Activations,
    emit: impl FnMut(usize, S::F32s),
) {
    for_rows(simd, blocks, x, 0..x.count, emit);
}

/// Like [`for_each_row`], but only for the rows in `range`.
#[inline(always)]
pub(super) fn for_rows<S: Simd, B: DotBlock>(
    simd: S,
    blocks: &[B],
    x: &Activations,
    range: Range<usize>,
    mut emit: impl FnMut(usize, S::F32s),
) {
    assert!(x.row_blocks == blocks.len() && range.end <= x.count);
    let Range { start: mut row, end } = range;
    if S::ROWS >= 8 {
        while row + 8 <= end {
            micro_kernel::<S, B, 8>(simd, blocks, x, row, &mut emit);
            row += 8;
        }
    }
    if S::ROWS >= 4 {
        while row + 4 <= end {
            micro_kernel::<S, B, 4>(simd, blocks, x, row, &mut emit);
            row += 4;
        }
    }
    while row + 2 <= end {
        micro_kernel::<S, B, 2>(simd, blocks, x, row, &mut emit);
        row += 2;
    }
    if row < end {
        micro_kernel::<S, B, 1>(simd, blocks, x, row, &mut emit);
    }
}

/// Multiplies `M` rows, starting at row `first`, with a tile. `M` is so small that the accumulators stay in registers.
#[inline(always)]
fn micro_kernel<S: Simd, B: DotBlock, const M: usize>(
    simd: S,
    blocks: &[B],
    x: &Activations,
    first: usize,
    emit: &mut impl FnMut(usize, S::F32s),
) {
    // Loops instead of closures: a closure is compiled as a call without the target features of `S`.
    let mut x_rows = [&x.blocks[..0]; M];
    for (m, row) in x_rows.iter_mut().enumerate() {
        *row = &x.blocks[(first + m) * blocks.len()..][..blocks.len()];
    }
    let mut totals = [simd.splat(0.0); M];
    for (i, block) in blocks.iter().enumerate() {
        let (mut sums, mut values) = ([simd.splat_i32(0); M], [&[0; 32]; M]);
        for m in 0..M {
            sums[m] = simd.splat_i32(B::offset(x_rows[m][i].offset));
            values[m] = &x_rows[m][i].values;
        }
        block.dot(simd, &mut sums, values);
        let weights = block.scales(simd);
        for m in 0..M {
            let scale = simd.splat(x_rows[m][i].scale);
            let scale = weights.map_or(scale, |weights| simd.mul(weights, scale));
            totals[m] = simd.fma(simd.to_f32(sums[m]), scale, totals[m]);
        }
    }
    for (m, total) in totals.into_iter().enumerate() {
        emit(first + m, total);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor};

    use super::*;

    /// Returns pseudo-random floats from -1 to 1.
    fn noise(count: usize, mut seed: u32) -> Vec<f32> {
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn product(weight: &PackedWeight, isa: Isa, x: &[f32]) -> Vec<f32> {
        let mut rows = Activations::default();
        rows.quantise(isa, x, weight.inputs);
        let mut panels = vec![[0.0; LANES]; weight.tiles() * rows.count];
        weight.gemm(isa, &rows, 1, &mut panels);
        let value = |row: usize, out: usize| panels[out / LANES * rows.count + row][out % LANES];
        (0..rows.count).flat_map(|row| (0..weight.outputs).map(move |out| value(row, out))).collect()
    }

    #[test]
    fn every_cpu_computes_the_same_bits_near_the_exact_product() {
        let (outputs, inputs, count) = (48, 96, 29);
        for dtype in [GgmlDType::Q4_0, GgmlDType::Q8_0] {
            let dense = Tensor::from_vec(noise(outputs * inputs, 1), (outputs, inputs), &Device::Cpu).unwrap();
            let stored = QTensor::quantize(&dense, dtype).unwrap();
            let exact = stored.dequantize(&Device::Cpu).unwrap();
            let x = noise(count * inputs, 2);
            let rows = Tensor::from_vec(x.clone(), (count, inputs), &Device::Cpu).unwrap();
            let exact_product = rows.matmul(&exact.t().unwrap()).unwrap();
            let exact_product = exact_product.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let bias = noise(outputs, 3);
            let packed = PackedWeight::pack(&[&stored], Some(bias.clone())).unwrap();
            let exact = exact.to_vec2::<f32>().unwrap();
            for (number, exact) in exact.iter().enumerate() {
                let mut row = vec![0.0; inputs];
                packed.dequantise_row(number, &mut row);
                assert_eq!(row, *exact);
            }
            let all = Isa::supported();
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
