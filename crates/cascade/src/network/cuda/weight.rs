//! Quantised weights on the card, and conversions of stored tensors.

use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Tensor};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DeviceRepr};
use half::{bf16, f16};

use crate::Error;
use crate::checkpoint::{StoredTensor, Weights};

/// Columns that share a scale, as in ggml's Q4_0 and Q8_0.
pub(super) const QUANT_BLOCK: usize = 32;
/// Columns and outputs come in multiples of this number: the tile of the GEMM kernels.
pub(super) const TILE: usize = 64;

/// Bytes of `WeightTile` in `cuda/int8.cuh`: int8 values of 64 outputs and 64 columns, and their padded f32 scales.
const TILE_BYTES: usize = TILE * TILE + 2 * 4 * (TILE / 4 + 4) * size_of::<f32>();

/// A weight matrix `[outputs, inputs]`: int8 values and an f32 scale per 32 columns, in the tiles of the GEMM kernels.
pub(super) struct Int8Weight {
    tiles: CudaSlice<u8>,
    bias: Option<CudaSlice<f32>>,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
}

/// `Weight` in `cuda/int8.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct WeightArgument {
    tiles: u64,
    bias: u64,
    outputs: i32,
    inputs: i32,
}

// SAFETY: has the layout of the C struct, without padding.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for WeightArgument {}

/// A quantised matrix in host memory.
struct HostWeight {
    /// `[output][input]`
    values: Vec<i8>,
    /// `[output][input / 32]`
    scales: Vec<f32>,
    outputs: usize,
    inputs: usize,
}

/// Order of the outputs of several matrices that are concatenated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// One matrix after the other.
    Consecutive,
    /// Eight outputs of each matrix in turn.
    Interleaved,
}

/// Returns true if the kernels support a stored matrix of this type and shape.
pub(super) fn supports(dtype: GgmlDType, shape: &[usize]) -> bool {
    let known = matches!(dtype, GgmlDType::Q4_0 | GgmlDType::Q8_0);
    known && matches!(shape, [out, inputs] if out % TILE == 0 && inputs % TILE == 0)
}

impl Int8Weight {
    /// Loads the linear layers `names` as one layer. Biases are optional.
    pub(super) fn load(
        stream: &Arc<CudaStream>,
        weights: &mut Weights,
        names: &[&str],
        order: Order,
    ) -> Result<Self, Error> {
        let mut parts = Vec::with_capacity(names.len());
        let mut bias = Vec::new();
        for name in names {
            parts.push(HostWeight::read(weights, &format!("{name}.weight"))?);
            let name = format!("{name}.bias");
            if weights.has(&name) {
                bias.extend(vector(weights, &name)?);
            }
        }
        let inputs = parts[0].inputs;
        let outputs = parts.iter().map(|part| part.outputs).sum::<usize>();
        if parts.iter().any(|part| part.inputs != inputs) || !(bias.is_empty() || bias.len() == outputs) {
            return Err(Error::checkpoint(format!("the shapes of {} do not match", names.join(", "))));
        }
        let rows: Vec<(usize, usize)> = match order {
            Order::Consecutive => (0..parts.len()).flat_map(|p| (0..parts[p].outputs).map(move |o| (p, o))).collect(),
            Order::Interleaved => {
                let part = |out: usize| (out / 8 % parts.len(), out / (8 * parts.len()) * 8 + out % 8);
                (0..outputs).map(part).collect()
            }
        };
        let steps = inputs / TILE;
        let mut tiles = vec![0u8; outputs / TILE * steps * TILE_BYTES];
        for (output, &(part, row)) in rows.iter().enumerate() {
            for step in 0..steps {
                let tile = &mut tiles[(output / TILE * steps + step) * TILE_BYTES..][..TILE_BYTES];
                parts[part].write(row, step, output % TILE, tile);
            }
        }
        Ok(Self {
            tiles: stream.clone_htod(&tiles)?,
            bias: if bias.is_empty() { None } else { Some(stream.clone_htod(&bias)?) },
            outputs,
            inputs,
        })
    }

    /// Returns the kernel argument.
    pub(super) fn argument(&self) -> WeightArgument {
        let stream = self.tiles.stream();
        WeightArgument {
            tiles: self.tiles.device_ptr(stream).0,
            bias: self.bias.as_ref().map_or(0, |bias| bias.device_ptr(stream).0),
            outputs: self.outputs as i32,
            inputs: self.inputs as i32,
        }
    }
}

impl HostWeight {
    fn read(weights: &mut Weights, name: &str) -> Result<Self, Error> {
        let StoredTensor::Quantised(stored) = weights.get(name)? else {
            return Err(Error::checkpoint(format!("{name} is not quantised")));
        };
        let (outputs, inputs) = stored.shape().dims2()?;
        let data = stored.data()?;
        let mut values = Vec::with_capacity(outputs * inputs);
        let mut scales = Vec::with_capacity(outputs * inputs / QUANT_BLOCK);
        let scale = |bytes: &[u8]| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
        match stored.dtype() {
            GgmlDType::Q4_0 => {
                for block in data.as_chunks::<18>().0 {
                    scales.push(scale(block));
                    // Columns 0 to 15 are in the low nibbles, columns 16 to 31 in the high nibbles.
                    values.extend(block[2..].iter().map(|byte| (byte & 15) as i8 - 8));
                    values.extend(block[2..].iter().map(|byte| (byte >> 4) as i8 - 8));
                }
            }
            GgmlDType::Q8_0 => {
                for block in data.as_chunks::<34>().0 {
                    scales.push(scale(block));
                    values.extend(block[2..].iter().map(|&byte| byte as i8));
                }
            }
            other => return Err(Error::checkpoint(format!("{name} is {other:?}: only Q4_0 and Q8_0 are supported"))),
        }
        Ok(Self { values, scales, outputs, inputs })
    }

    /// Writes the 64 columns `step` of row `row` to output `output` of a tile. See `WeightTile` in `cuda/int8.cuh`.
    fn write(&self, row: usize, step: usize, output: usize, tile: &mut [u8]) {
        let (values, scales) = tile.split_at_mut(TILE * TILE);
        let chunks = self.values[row * self.inputs + step * TILE..][..TILE].as_chunks::<16>().0;
        for (number, chunk) in chunks.iter().enumerate() {
            let place = output * TILE + ((number ^ (output >> 1)) & 3) * 16;
            values[place..place + 16].copy_from_slice(&chunk.map(|value| value as u8));
        }
        for half in 0..2 {
            let scale = self.scales[row * self.inputs / QUANT_BLOCK + 2 * step + half];
            let (lane, column) = (output % 8 / 2, output / 8 * 2 + output % 2);
            let place = ((half * 4 + lane) * (TILE / 4 + 4) + column) * size_of::<f32>();
            scales[place..place + 4].copy_from_slice(&scale.to_le_bytes());
        }
    }
}

/// Reads a tensor of any shape as f32.
pub(super) fn vector(weights: &mut Weights, name: &str) -> Result<Vec<f32>, Error> {
    let stored = weights.get(name)?.dense()?;
    Ok(stored.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// Returns the bytes of a tensor of f32, f16 or bf16 in row-major order.
pub(super) fn bytes_as(tensor: &Tensor) -> Result<Vec<u8>, Error> {
    let flat = tensor.flatten_all()?;
    Ok(match flat.dtype() {
        DType::F16 => flat.to_vec1::<f16>()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::BF16 => flat.to_vec1::<bf16>()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
        _ => flat.to_vec1::<f32>()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
    })
}
