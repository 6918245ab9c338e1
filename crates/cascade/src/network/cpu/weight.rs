//! Quantised weights, packed for the kernels once, at load.

use candle_core::quantized::{GgmlDType, QTensor};
use half::f16;

use super::simd::LANES;
use crate::Error;

/// Columns that share a scale, as in GGUF.
pub(super) const BLOCK: usize = 32;

/// A weight `[out, in]`: tiles of 16 outputs, each a run of blocks of 32 columns.
pub(super) struct Weight {
    pub(super) blocks: Blocks,
    pub(super) bias: Option<Vec<f32>>,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
}

/// The blocks of a weight, tile after tile.
pub(super) enum Blocks {
    /// `bytes[i][4 * out + j]` holds column `8 i + j` in its low half and `8 i + 4 + j` in its high half, each from 0 to
    /// 15 for -8 to 7.
    Q4(Vec<Block<4>>),
    /// `bytes[i][4 * out + j]` holds column `4 i + j`, from 0 to 255 for -128 to 127.
    Q8(Vec<Block<8>>),
}

/// 32 columns of 16 outputs.
#[repr(C, align(32))]
#[derive(Clone, Copy)]
pub(super) struct Block<const N: usize> {
    pub(super) bytes: [[u8; 4 * LANES]; N],
    /// Scales of the outputs in half precision.
    pub(super) scales: [u16; LANES],
}

impl Weight {
    /// Whether a stored matrix is of a type and shape that the kernels know.
    pub(super) fn fits(dtype: GgmlDType, shape: &[usize]) -> bool {
        let known = matches!(dtype, GgmlDType::Q4_0 | GgmlDType::Q8_0);
        // What a product reads another may have written, so both sides are in blocks.
        known && matches!(shape, [out, inputs] if out % LANES == 0 && inputs % BLOCK == 0)
    }

    /// Packs a weight, or several whose outputs follow one another. Errors: one that does not fit.
    pub(super) fn pack(stored: &[&QTensor], bias: Option<Vec<f32>>) -> Result<Self, Error> {
        let inputs = stored[0].shape().dims2()?.1;
        let mut outputs = 0;
        for weight in stored {
            let (out, width) = weight.shape().dims2()?;
            if !Self::fits(weight.dtype(), weight.shape().dims())
                || width != inputs
                || weight.dtype() != stored[0].dtype()
            {
                return Err(Error::checkpoint("weights that are read together differ in type or width"));
            }
            outputs += out;
        }
        let data: Vec<_> = stored.iter().map(|weight| weight.data()).collect::<Result<_, _>>()?;
        let data = data.concat();
        let columns = inputs / BLOCK;
        let at = |block: usize, out: usize| (block / columns * LANES + out) * columns + block % columns;
        let numbers = 0..outputs / LANES * columns;
        let blocks = match stored[0].dtype() {
            GgmlDType::Q4_0 => {
                let stored: &[[u8; 18]] = data.as_chunks().0;
                Blocks::Q4(numbers.map(|block| pack_q4(|out| &stored[at(block, out)])).collect())
            }
            _ => {
                let stored: &[[u8; 34]] = data.as_chunks().0;
                Blocks::Q8(numbers.map(|block| pack_q8(|out| &stored[at(block, out)])).collect())
            }
        };
        Ok(Self { blocks, bias, outputs, inputs })
    }

    /// Writes a row of the weight: `inputs` floats.
    pub(super) fn row(&self, number: usize, row: &mut [f32]) {
        let (tile, out) = (number / LANES, number % LANES);
        let columns = self.inputs / BLOCK;
        for (i, row) in row.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            match &self.blocks {
                Blocks::Q4(blocks) => blocks[tile * columns + i].unpack(out, row),
                Blocks::Q8(blocks) => blocks[tile * columns + i].unpack(out, row),
            }
        }
    }
}

impl<const N: usize> Block<N> {
    pub(super) const ZERO: Self = Self { bytes: [[0; 4 * LANES]; N], scales: [0; LANES] };
}

impl Block<4> {
    fn unpack(&self, out: usize, row: &mut [f32; BLOCK]) {
        let scale = f16::from_bits(self.scales[out]).to_f32();
        for (column, value) in row.iter_mut().enumerate() {
            let byte = self.bytes[column / 8][4 * out + column % 4];
            let nibble = if column % 8 < 4 { byte & 15 } else { byte >> 4 };
            *value = (i32::from(nibble) - 8) as f32 * scale;
        }
    }
}

impl Block<8> {
    fn unpack(&self, out: usize, row: &mut [f32; BLOCK]) {
        let scale = f16::from_bits(self.scales[out]).to_f32();
        for (column, value) in row.iter_mut().enumerate() {
            *value = (i32::from(self.bytes[column / 4][4 * out + column % 4]) - 128) as f32 * scale;
        }
    }
}

fn pack_q4<'a>(stored: impl Fn(usize) -> &'a [u8; 18]) -> Block<4> {
    let mut block = Block::ZERO;
    for out in 0..LANES {
        let bytes = stored(out);
        block.scales[out] = u16::from_le_bytes([bytes[0], bytes[1]]);
        // GGUF keeps columns 0 to 15 in the low halves and 16 to 31 in the high ones.
        let nibble = |column: usize| match column {
            0..16 => bytes[2 + column] & 15,
            _ => bytes[2 + column - 16] >> 4,
        };
        for (i, bytes) in block.bytes.iter_mut().enumerate() {
            for j in 0..4 {
                bytes[4 * out + j] = nibble(8 * i + j) | nibble(8 * i + 4 + j) << 4;
            }
        }
    }
    block
}

fn pack_q8<'a>(stored: impl Fn(usize) -> &'a [u8; 34]) -> Block<8> {
    let mut block = Block::ZERO;
    for out in 0..LANES {
        let bytes = stored(out);
        block.scales[out] = u16::from_le_bytes([bytes[0], bytes[1]]);
        for (column, &value) in bytes[2..].iter().enumerate() {
            block.bytes[column / 4][4 * out + column % 4] = value ^ 128;
        }
    }
    block
}
