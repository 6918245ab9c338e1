//! Quantised weights, converted to the layout of the kernels when they are loaded.

use candle_core::quantized::{GgmlDType, QTensor};
use half::f16;

use super::simd::LANES;
use crate::Error;

/// Number of columns that share a scale, as in ggml's Q4_0 and Q8_0.
pub(super) const QUANT_BLOCK: usize = 32;

/// A weight matrix `[outputs, inputs]`, stored as tiles of 16 outputs. A tile consists of blocks of 32 columns.
pub(super) struct PackedWeight {
    pub(super) blocks: PackedBlocks,
    pub(super) bias: Option<Vec<f32>>,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
}

/// Blocks of a weight, `[tile][column block]`.
pub(super) enum PackedBlocks {
    /// Q4_0: in `bytes[i][4 * out + j]`, the low nibble is column `8 * i + j`, the high nibble column `8 * i + 4 + j`.
    /// A nibble is the value plus 8.
    Q4(Vec<PackedBlock<4>>),
    /// Q8_0: `bytes[i][4 * out + j]` is the value of column `4 * i + j` plus 128.
    Q8(Vec<PackedBlock<8>>),
}

/// A block of 32 columns of 16 outputs.
#[repr(C, align(32))]
#[derive(Clone, Copy)]
pub(super) struct PackedBlock<const N: usize> {
    pub(super) bytes: [[u8; 4 * LANES]; N],
    /// Scale of each output, as the bits of an f16.
    pub(super) scales: [u16; LANES],
}

impl PackedWeight {
    /// Returns true if the kernels support a stored matrix of this type and shape.
    pub(super) fn supports(dtype: GgmlDType, shape: &[usize]) -> bool {
        let known = matches!(dtype, GgmlDType::Q4_0 | GgmlDType::Q8_0);
        // The kernels compute whole tiles of outputs and whole blocks of inputs only.
        known && matches!(shape, [out, inputs] if out % LANES == 0 && inputs % QUANT_BLOCK == 0)
    }

    /// Packs one matrix, or several concatenated along their outputs. Fails with [`Error::Checkpoint`] if a matrix is
    /// not supported, or if the matrices differ in type or number of inputs.
    pub(super) fn pack(stored: &[&QTensor], bias: Option<Vec<f32>>) -> Result<Self, Error> {
        let inputs = stored[0].shape().dims2()?.1;
        let mut outputs = 0;
        for weight in stored {
            let (out, width) = weight.shape().dims2()?;
            if !Self::supports(weight.dtype(), weight.shape().dims())
                || width != inputs
                || weight.dtype() != stored[0].dtype()
            {
                return Err(Error::checkpoint("weights of a layer need one width and one type, Q4_0 or Q8_0"));
            }
            outputs += out;
        }
        let data: Vec<_> = stored.iter().map(|weight| weight.data()).collect::<Result<_, _>>()?;
        let data = data.concat();
        let columns = inputs / QUANT_BLOCK;
        let at = |block: usize, out: usize| (block / columns * LANES + out) * columns + block % columns;
        let numbers = 0..outputs / LANES * columns;
        let blocks = match stored[0].dtype() {
            GgmlDType::Q4_0 => {
                let stored: &[[u8; 18]] = data.as_chunks().0;
                PackedBlocks::Q4(numbers.map(|block| pack_q4(|out| &stored[at(block, out)])).collect())
            }
            _ => {
                let stored: &[[u8; 34]] = data.as_chunks().0;
                PackedBlocks::Q8(numbers.map(|block| pack_q8(|out| &stored[at(block, out)])).collect())
            }
        };
        Ok(Self { blocks, bias, outputs, inputs })
    }

    /// Dequantises the weights of one output to `row`, which has `inputs` floats.
    pub(super) fn dequantise_row(&self, output: usize, row: &mut [f32]) {
        let (tile, out) = (output / LANES, output % LANES);
        let columns = self.inputs / QUANT_BLOCK;
        for (i, row) in row.as_chunks_mut::<QUANT_BLOCK>().0.iter_mut().enumerate() {
            match &self.blocks {
                PackedBlocks::Q4(blocks) => blocks[tile * columns + i].dequantise(out, row),
                PackedBlocks::Q8(blocks) => blocks[tile * columns + i].dequantise(out, row),
            }
        }
    }
}

impl<const N: usize> PackedBlock<N> {
    pub(super) const ZERO: Self = Self { bytes: [[0; 4 * LANES]; N], scales: [0; LANES] };
}

impl PackedBlock<4> {
    fn dequantise(&self, out: usize, row: &mut [f32; QUANT_BLOCK]) {
        let scale = f16::from_bits(self.scales[out]).to_f32();
        for (column, value) in row.iter_mut().enumerate() {
            let byte = self.bytes[column / 8][4 * out + column % 4];
            let nibble = if column % 8 < 4 { byte & 15 } else { byte >> 4 };
            *value = (i32::from(nibble) - 8) as f32 * scale;
        }
    }
}

impl PackedBlock<8> {
    fn dequantise(&self, out: usize, row: &mut [f32; QUANT_BLOCK]) {
        let scale = f16::from_bits(self.scales[out]).to_f32();
        for (column, value) in row.iter_mut().enumerate() {
            *value = (i32::from(self.bytes[column / 4][4 * out + column % 4]) - 128) as f32 * scale;
        }
    }
}

fn pack_q4<'a>(stored: impl Fn(usize) -> &'a [u8; 18]) -> PackedBlock<4> {
    let mut block = PackedBlock::ZERO;
    for out in 0..LANES {
        let bytes = stored(out);
        block.scales[out] = u16::from_le_bytes([bytes[0], bytes[1]]);
        // ggml stores columns 0 to 15 in the low nibbles, columns 16 to 31 in the high nibbles.
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

fn pack_q8<'a>(stored: impl Fn(usize) -> &'a [u8; 34]) -> PackedBlock<8> {
    let mut block = PackedBlock::ZERO;
    for out in 0..LANES {
        let bytes = stored(out);
        block.scales[out] = u16::from_le_bytes([bytes[0], bytes[1]]);
        for (column, &value) in bytes[2..].iter().enumerate() {
            block.bytes[column / 4][4 * out + column % 4] = value ^ 128;
        }
    }
    block
}
