//! Products of Q4_0 weights with int8 activations, on the CPU.
//!
//! Activations get a scale per 32 values, as the weights have one. Dot products of 32 are exact in i32; their sums run
//! in f32 over the blocks in order, fused multiply-adds throughout. So a row's result does not depend on the rows beside
//! it, on threads or on the CPU.

mod kernel;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use half::f16;
use rayon::prelude::*;

use super::cpu::{Isa, for_this_cpu};
use crate::Error;

/// Values that share a scale.
const BLOCK: usize = 32;
/// Outputs that are computed side by side.
const TILE: usize = 16;
/// Bytes of a stored Q4_0 block: an f16 scale and 32 nibbles.
const STORED_BYTES: usize = 2 + BLOCK / 2;
/// Rows of a task: their activations stay in the second cache.
const TASK_ROWS: usize = 256;
/// Tiles of a task.
const TASK_TILES: usize = 4;

/// 32 columns of 16 rows of a weight. `nibbles[i][4 * row + j]` holds column `8 i + j` in its low half and column
/// `8 i + 4 + j` in its high half, each from 0 to 15 for -8 to 7.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Block {
    nibbles: [[u8; 64]; 4],
    scales: [f32; TILE],
}

/// A weight `[out, in]`, packed for the kernels.
pub(super) struct Weight {
    /// Tile after tile, its blocks in the order of columns.
    blocks: Vec<Block>,
    outputs: usize,
    inputs: usize,
}

/// Rows of activations.
pub(super) struct Rows {
    count: usize,
    width: usize,
    /// `[count, width]`
    values: Vec<i8>,
    /// `[count, width / 32]`
    scales: Vec<f32>,
    /// -8 times the sum of a block's values, which brings nibbles to their zero: `[count, width / 32]`
    offsets: Vec<i32>,
}

impl Weight {
    /// Packs a stored weight; `None` where it is not Q4_0 or its shape does not fit the tiles.
    pub(super) fn pack(stored: &QTensor) -> Result<Option<Self>, Error> {
        let (outputs, inputs) = stored.shape().dims2()?;
        if stored.dtype() != GgmlDType::Q4_0 || !outputs.is_multiple_of(TILE) || !inputs.is_multiple_of(BLOCK)
        {
            return Ok(None);
        }
        let data = stored.data()?;
        let stored: &[[u8; STORED_BYTES]] = data.as_chunks().0;
        let columns = inputs / BLOCK;
        let block = |i: usize| {
            let (tile, column) = (i / columns, i % columns);
            pack_block(|row| &stored[(tile * TILE + row) * columns + column])
        };
        let blocks = (0..outputs / TILE * columns).map(block).collect();
        Ok(Some(Self { blocks, outputs, inputs }))
    }

    /// `x W^T + bias`: `[rows, out]`.
    pub(super) fn forward(&self, rows: &Rows, bias: Option<&[f32]>) -> Result<Tensor, Error> {
        if rows.width != self.inputs {
            return Err(Error::input(format!(
                "rows of {} values for a weight of {}",
                rows.width, self.inputs
            )));
        }
        let mut out = vec![0.0; rows.count * self.outputs];
        self.product(rows, bias, Isa::here(), &mut out);
        Ok(Tensor::from_vec(out, (rows.count, self.outputs), &Device::Cpu)?)
    }

    fn product(&self, rows: &Rows, bias: Option<&[f32]>, isa: Isa, out: &mut [f32]) {
        let columns = self.inputs / BLOCK;
        let tiles = self.outputs / TILE;
        let groups = tiles.div_ceil(TASK_TILES);
        let tasks = rows.count.div_ceil(TASK_ROWS) * groups;
        let out = Output { values: out.as_mut_ptr(), width: self.outputs };
        (0..tasks).into_par_iter().for_each(|task| {
            let (chunk, group) = (task / groups, task % groups);
            let of_rows = chunk * TASK_ROWS..rows.count.min((chunk + 1) * TASK_ROWS);
            for tile in group * TASK_TILES..tiles.min((group + 1) * TASK_TILES) {
                let blocks = &self.blocks[tile * columns..(tile + 1) * columns];
                let bias = bias.map(|bias| &bias[tile * TILE..(tile + 1) * TILE]);
                let write = |row: usize, mut sums: [f32; TILE]| {
                    for (sum, bias) in sums.iter_mut().zip(bias.unwrap_or(&[])) {
                        *sum += bias;
                    }
                    // SAFETY: tasks take other rows or other tiles of the output, both within it.
                    #[allow(unsafe_code)]
                    unsafe {
                        out.write(row, tile * TILE, &sums);
                    }
                };
                kernel::tile(isa, blocks, rows, of_rows.clone(), write);
            }
        });
    }
}

/// The output, which tasks write side by side.
struct Output {
    values: *mut f32,
    width: usize,
}

// SAFETY: tasks write to places of their own, see `Weight::product`.
#[allow(unsafe_code)]
unsafe impl Sync for Output {}

impl Output {
    /// # Safety
    /// The place must be within the output, and no other task may write or read it.
    #[allow(unsafe_code)]
    unsafe fn write(&self, row: usize, column: usize, sums: &[f32; TILE]) {
        // SAFETY: promised by the caller.
        unsafe {
            let place = self.values.add(row * self.width + column);
            std::ptr::copy_nonoverlapping(sums.as_ptr(), place, TILE);
        }
    }
}

fn pack_block<'a>(stored: impl Fn(usize) -> &'a [u8; STORED_BYTES]) -> Block {
    let mut block = Block { nibbles: [[0; 64]; 4], scales: [0.0; TILE] };
    for row in 0..TILE {
        let bytes = stored(row);
        block.scales[row] = f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
        // GGUF keeps columns 0 to 15 in the low halves and 16 to 31 in the high ones.
        let nibble = |column: usize| match column {
            0..16 => bytes[2 + column] & 15,
            _ => bytes[2 + column - 16] >> 4,
        };
        for (i, nibbles) in block.nibbles.iter_mut().enumerate() {
            for j in 0..4 {
                nibbles[4 * row + j] = nibble(8 * i + j) | nibble(8 * i + 4 + j) << 4;
            }
        }
    }
    block
}

impl Rows {
    /// Rounds `x` `[rows, width]` to int8.
    pub(super) fn of(x: &Tensor) -> Result<Self, Error> {
        let (count, width) = x.dims2()?;
        let x = x.flatten_all()?.to_vec1::<f32>()?;
        let blocks = width / BLOCK;
        let mut rows = Self {
            count,
            width,
            values: vec![0; count * width],
            scales: vec![0.0; count * blocks],
            offsets: vec![0; count * blocks],
        };
        let values = rows.values.par_chunks_exact_mut(width);
        let scales = rows.scales.par_chunks_exact_mut(blocks).zip(rows.offsets.par_chunks_exact_mut(blocks));
        values
            .zip(scales)
            .zip(x.par_chunks_exact(width))
            .with_min_len(8)
            .for_each(|((values, (scales, offsets)), x)| round_row(x, values, scales, offsets));
        Ok(rows)
    }
}

for_this_cpu! {
    /// Rounds one row.
    fn round_row(x: &[f32], values: &mut [i8], scales: &mut [f32], offsets: &mut [i32]) = round_row_body;
}

#[inline(always)]
fn round_row_body(x: &[f32], values: &mut [i8], scales: &mut [f32], offsets: &mut [i32]) {
    let blocks = x.as_chunks::<BLOCK>().0.iter().zip(values.as_chunks_mut::<BLOCK>().0);
    for ((x, values), (scale, offset)) in blocks.zip(scales.iter_mut().zip(offsets)) {
        let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        *scale = largest / 127.0;
        let steps = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let mut sum = 0;
        for (value, x) in values.iter_mut().zip(x) {
            let rounded = (x * steps).round_ties_even() as i32;
            *value = rounded as i8;
            sum += rounded;
        }
        *offset = -8 * sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random, from -1 to 1.
    fn noise(count: usize, mut seed: u32) -> Vec<f32> {
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn every_cpu_computes_the_same_bits_near_the_exact_product() {
        let (outputs, inputs, count) = (48, 96, 277);
        let weight = Tensor::from_vec(noise(outputs * inputs, 1), (outputs, inputs), &Device::Cpu).unwrap();
        let stored = QTensor::quantize(&weight, GgmlDType::Q4_0).unwrap();
        let exact = stored.dequantize(&Device::Cpu).unwrap();
        let x = Tensor::from_vec(noise(count * inputs, 2), (count, inputs), &Device::Cpu).unwrap();
        let exact = x.matmul(&exact.t().unwrap()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (packed, rows) = (Weight::pack(&stored).unwrap().unwrap(), Rows::of(&x).unwrap());
        let bias = noise(outputs, 3);
        let product = |isa| {
            let mut out = vec![0.0; count * outputs];
            packed.product(&rows, Some(&bias), isa, &mut out);
            out
        };
        let portable = product(Isa::Portable);
        for (i, (ours, exact)) in portable.iter().zip(&exact).enumerate() {
            let exact = exact + bias[i % outputs];
            assert!((ours - exact).abs() < 0.1, "{i}: {ours} {exact}");
        }
        for isa in Isa::all() {
            assert_eq!(product(isa), portable, "{isa:?}");
        }
    }

    #[test]
    fn a_row_does_not_depend_on_those_beside_it() {
        let weight = Tensor::from_vec(noise(16 * 64, 4), (16, 64), &Device::Cpu).unwrap();
        let packed = Weight::pack(&QTensor::quantize(&weight, GgmlDType::Q4_0).unwrap()).unwrap().unwrap();
        let x = Tensor::from_vec(noise(21 * 64, 5), (21, 64), &Device::Cpu).unwrap();
        let product = |x: &Tensor| {
            packed
                .forward(&Rows::of(x).unwrap(), None)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()
        };
        let all = product(&x);
        for row in 0..21 {
            assert_eq!(product(&x.narrow(0, row, 1).unwrap()), all[row * 16..(row + 1) * 16]);
        }
    }
}
