//! The network on an NVIDIA GPU: our own kernels, and cuBLAS for dense weights.
//!
//! Weights, KV caches and intermediate values stay on the card. A pass uploads a description of its rows, launches a
//! fixed sequence of kernels on one stream, and downloads only what the caller asked for. There are two networks:
//!
//! - [`int8`] computes `c3-int8-2`, the arithmetic of the CPU kernels, bit for bit;
//! - [`dense`] computes with dense weights in f32, f16 or bf16, or with quantised weights made dense.
//!
//! The kernels are in `crates/cascade/cuda`. The build script compiles them.

mod arena;
mod card;
mod dense;
mod graphs;
mod input_layer;
mod int8;
mod kernels;
mod pass;
mod rotary;
mod weight;

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};

use super::{Argmax, InputLayer, KvCache, KvCapacity, Layers, Network, Sequence};
use crate::Error;
use crate::checkpoint::Checkpoint;
use crate::options::Dtype;
pub(crate) use card::Card;
use input_layer::DeviceInputLayer;

/// Rows of a KV cache whose values share a scale. Capacities of causal rows are multiples of it.
const CAUSAL_STEP: usize = 32;

/// Keys and values of one sequence in all layers, on the card. The layout belongs to the network.
pub(super) struct KvBuffer {
    bytes: Arc<CudaSlice<u8>>,
    capacity: KvCapacity,
    /// The cache whose rows this one begins with, until the first pass copies them.
    prefix: Option<Prefix>,
}

/// The first rows of a cache, which another cache begins with.
struct Prefix {
    bytes: Arc<CudaSlice<u8>>,
    capacity: KvCapacity,
    rows: usize,
}

impl KvCache {
    fn cuda(&self) -> Result<&KvBuffer, Error> {
        match &self.layers {
            Layers::Cuda(buffer) => Ok(buffer),
            _ => Err(other_device()),
        }
    }

    fn cuda_mut(&mut self) -> Result<&mut KvBuffer, Error> {
        match &mut self.layers {
            Layers::Cuda(buffer) => Ok(buffer),
            _ => Err(other_device()),
        }
    }
}

fn other_device() -> Error {
    Error::Gpu("the KV cache belongs to another device".into())
}

/// Allocates a KV cache of `bytes` bytes on `card` that begins with the rows of `prefix`.
fn new_cache(card: &Card, bytes: usize, capacity: KvCapacity, prefix: Option<&KvCache>) -> Result<KvCache, Error> {
    // SAFETY: a pass writes the rows of a cache before it reads them. Kernels read values after the last row of a block
    // of 32, but give them no weight.
    #[allow(unsafe_code)]
    let bytes = Arc::new(unsafe { card.stream().alloc::<u8>(bytes)? });
    let rows = prefix.map_or(0, |prefix| prefix.rows);
    let prefix = match prefix {
        Some(prefix) => {
            let KvBuffer { bytes, capacity, .. } = prefix.cuda()?;
            Some(Prefix { bytes: bytes.clone(), capacity: *capacity, rows })
        }
        None => None,
    };
    Ok(KvCache { layers: Layers::Cuda(KvBuffer { bytes, capacity, prefix }), rows })
}

/// Notes that a pass has copied the first rows of its KV caches.
fn forget_prefixes(pass: &mut [Sequence<'_>]) -> Result<(), Error> {
    for sequence in pass {
        sequence.cache.cuda_mut()?.prefix = None;
    }
    Ok(())
}

/// Rounds a capacity up to whole blocks, as the kernels require.
fn padded(capacity: KvCapacity) -> KvCapacity {
    KvCapacity { causal: capacity.causal.next_multiple_of(CAUSAL_STEP), slots: capacity.slots.next_multiple_of(2) }
}

/// Returns a bit per vocabulary id on the card, set for the ids in `masked`.
fn mask(card: &Card, vocabulary: usize, masked: &[u32]) -> Result<CudaSlice<u32>, Error> {
    let mut bits = vec![0u32; vocabulary.div_ceil(32)];
    masked.iter().for_each(|&id| bits[id as usize / 32] |= 1 << (id % 32));
    Ok(card.stream().clone_htod(&bits)?)
}

/// Reads the structs `Argmax` of `cuda/common.cuh` from downloaded words.
fn argmax_of_words(words: &[u32]) -> Vec<Argmax> {
    let argmax = |words: &[u32; 4]| Argmax {
        id: words[0],
        logit: f32::from_bits(words[1]),
        runner_up: f32::from_bits(words[2]),
        target: f32::from_bits(words[3]),
    };
    words.as_chunks().0.iter().map(argmax).collect()
}

/// Copies `count` runs of `bytes` bytes between buffers, each given with the distance between its runs in bytes.
fn copy_runs(
    stream: &CudaStream,
    (from, from_pitch): (&CudaSlice<u8>, usize),
    (to, to_pitch): (&CudaSlice<u8>, usize),
    bytes: usize,
    count: usize,
) -> Result<(), Error> {
    use cudarc::driver::sys;
    let device = sys::CUmemorytype::CU_MEMORYTYPE_DEVICE;
    let copy = sys::CUDA_MEMCPY2D {
        srcXInBytes: 0,
        srcY: 0,
        srcMemoryType: device,
        srcHost: std::ptr::null(),
        srcDevice: from.device_ptr(stream).0,
        srcArray: std::ptr::null_mut(),
        srcPitch: from_pitch,
        dstXInBytes: 0,
        dstY: 0,
        dstMemoryType: device,
        dstHost: std::ptr::null_mut(),
        dstDevice: to.device_ptr(stream).0,
        dstArray: std::ptr::null_mut(),
        dstPitch: to_pitch,
        WidthInBytes: bytes,
        Height: count,
    };
    // SAFETY: both buffers have `count` runs of their pitch, each of which is at least `bytes` long. They are freed in
    // stream order.
    #[allow(unsafe_code)]
    unsafe {
        sys::cuMemcpy2DAsync_v2(&copy, stream.cu_stream()).result()?;
    }
    Ok(())
}

/// Loads the network of a stage to `card`. See [`super::load`].
pub(super) fn load(
    checkpoint: &mut Checkpoint,
    card: &Card,
    input: InputLayer,
    masked: Vec<u32>,
    dtype: Dtype,
) -> Result<Box<dyn Network>, Error> {
    let Checkpoint { network: config, weights, .. } = checkpoint;
    let quantised = int8::supports(weights, config);
    let is_decoder = matches!(input, InputLayer::Projector { .. });
    let dense = match dtype {
        Dtype::Auto if quantised && is_decoder => None,
        Dtype::Int8 if quantised => None,
        Dtype::Int8 => {
            return Err(Error::Device(
                "int8 needs weights in Q4_0 or Q8_0 and heads of 64 values, which this checkpoint does not have: use \
                 --dtype auto"
                    .into(),
            ));
        }
        Dtype::Auto => Some(match weights.stored_dtype()? {
            Some(candle_core::DType::BF16 | candle_core::DType::F16) => dense::Precision::Bf16,
            Some(_) => dense::Precision::F32,
            None => dense::Precision::F16,
        }),
        Dtype::F32 => Some(dense::Precision::F32),
        Dtype::F16 => Some(dense::Precision::F16),
        Dtype::Bf16 => Some(dense::Precision::Bf16),
    };
    Ok(match dense {
        None => Box::new(int8::Int8Network::load(weights, config, card, input, masked)?),
        Some(precision) => Box::new(dense::DenseNetwork::load(weights, config, card, input, masked, precision)?),
    })
}
