//! The Qwen2 network, for both stages and both checkpoint layouts.
//!
//! A forward pass takes rows of hidden states, packed without padding: the new rows of several sequences, one sequence
//! after the other. Norms and linear layers compute each row independently. Only attention depends on the sequence of a
//! row. The network follows Qwen2 as in transformers 4.49, which the published code uses.
//!
//! There are two backends: [`candle`] runs dense or dequantised weights on any device; [`cpu`] runs quantised weights
//! on a CPU, in our own kernels with one named arithmetic.

mod backend;
mod candle;
pub(crate) mod cpu;

use candle_core::{DType, Device, Tensor};

use crate::Error;
use crate::checkpoint::Checkpoint;
use crate::layout::Blocks;
use crate::options::Options;
use backend::Backend;
use cpu::{Dense, LayerKv};

/// Maximum rows whose logits candle computes and copies to host memory at once: 16 MiB for the default model.
const LOGIT_ROWS_MAX: usize = 256;

/// New rows of one sequence in a forward pass.
pub(crate) struct Sequence<'a> {
    /// Keys and values of the earlier rows. The pass appends the keys and values of the new rows.
    pub(crate) cache: &'a mut KvCache,
    /// Number of new rows.
    pub(crate) rows: usize,
    /// Attention pattern of the whole sequence.
    pub(crate) pattern: Pattern,
}

/// Number and width of attention heads.
#[derive(Clone, Copy, Debug)]
struct Heads {
    query: usize,
    key: usize,
    dim: usize,
}

/// Attention pattern of a sequence. Every row attends to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// A row attends to all earlier rows.
    Causal,
    /// Prompt rows attend to all earlier rows, slots to the whole prompt and to the earlier slots of their block.
    Blocks(Blocks),
}

impl Pattern {
    /// Returns the pattern of a prompt with blocks: [`Self::Causal`] for a single block.
    pub(crate) fn blocks(blocks: Blocks) -> Self {
        if blocks.count() == 1 { Self::Causal } else { Self::Blocks(blocks) }
    }
}

/// KV cache of one sequence.
#[derive(Clone)]
pub(crate) struct KvCache {
    layers: Layers,
    rows: usize,
}

/// Keys and values per layer.
#[derive(Clone)]
enum Layers {
    Cpu(Vec<LayerKv>),
    Candle(Vec<candle::LayerCache>),
}

impl KvCache {
    /// Number of cached rows, equal in all layers.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    fn cpu(&self) -> &[LayerKv] {
        match &self.layers {
            Layers::Cpu(layers) => layers,
            Layers::Candle(_) => &[],
        }
    }

    fn cpu_mut(&mut self) -> &mut [LayerKv] {
        match &mut self.layers {
            Layers::Cpu(layers) => layers,
            Layers::Candle(_) => &mut [],
        }
    }

    fn candle_mut(&mut self) -> &mut [candle::LayerCache] {
        match &mut self.layers {
            Layers::Candle(layers) => layers,
            Layers::Cpu(_) => &mut [],
        }
    }
}

/// Result of greedy decoding for one row. The logits of masked ids are minus infinity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Argmax {
    /// Id with the largest logit; the smallest such id on a tie.
    pub(crate) id: u32,
    /// Logit of `id`.
    pub(crate) logit: f32,
    /// Largest logit among the other ids.
    pub(crate) runner_up: f32,
    /// Logit of the target id; minus infinity if there is no target.
    pub(crate) target: f32,
}

impl Argmax {
    /// Returns the argmax of one row's `logits`, one per vocabulary id. `target` is the target id.
    pub(crate) fn of(logits: &[f32], target: Option<u32>) -> Self {
        let logit = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let id = logits.iter().position(|&x| x == logit).unwrap_or_default();
        let (before, behind) = (&logits[..id], &logits[id + 1..]);
        let runner_up = before.iter().chain(behind).copied().fold(f32::NEG_INFINITY, f32::max);
        let target = target.map_or(f32::NEG_INFINITY, |id| logits[id as usize]);
        Self { id: id as u32, logit, runner_up, target }
    }
}

/// A Qwen2 network.
pub(crate) struct Qwen2 {
    hidden: usize,
    device: Device,
    backend: Backend,
    network: Network,
}

enum Network {
    Cpu(Box<cpu::Network>),
    Candle(Box<candle::Network>),
}

impl Qwen2 {
    /// Loads the network of an opened stage. Fails with [`Error::Device`] if the device does not support the options,
    /// with [`Error::Checkpoint`] or [`Error::Candle`] if a tensor is missing or malformed.
    pub(crate) fn load(checkpoint: &mut Checkpoint, options: &Options) -> Result<Self, Error> {
        let Checkpoint { network: config, weights, device, .. } = checkpoint;
        let cpu_supported = cpu::supports(weights, config);
        let backend = Backend::select(options, device, weights.stored_dtype()?, cpu_supported)?;
        let network = match backend {
            Backend::Cpu(isa) => Network::Cpu(Box::new(cpu::Network::load(weights, config, isa)?)),
            Backend::Candle(dtype) => Network::Candle(Box::new(candle::Network::load(weights, config, dtype, device)?)),
        };
        Ok(Self { hidden: config.hidden, device: device.clone(), backend, network })
    }

    /// Width of a hidden state.
    pub(crate) fn hidden(&self) -> usize {
        self.hidden
    }

    /// Name of the arithmetic.
    pub(crate) fn arithmetic(&self) -> String {
        self.backend.arithmetic(&self.device)
    }

    /// Converts `tensor` to the data type of hidden states.
    pub(crate) fn convert(&self, tensor: Tensor) -> Result<Tensor, Error> {
        Ok(tensor.to_dtype(self.backend.dtype())?)
    }

    /// Returns an empty KV cache for one sequence.
    pub(crate) fn new_cache(&self) -> KvCache {
        let layers = match &self.network {
            Network::Cpu(network) => Layers::Cpu(network.new_cache()),
            Network::Candle(network) => Layers::Candle(network.new_cache()),
        };
        KvCache { layers, rows: 0 }
    }

    /// Bytes per row of the KV cache, summed over all layers.
    pub(crate) fn kv_row_bytes(&self) -> usize {
        match &self.network {
            Network::Cpu(network) => network.kv_row_bytes(),
            Network::Candle(network) => network.kv_row_bytes(),
        }
    }

    /// Returns the embeddings of `ids`, `[ids, hidden]`.
    pub(crate) fn embed(&self, ids: &[u32]) -> Result<Tensor, Error> {
        match &self.network {
            Network::Cpu(network) => self.tensor(network.embed(ids)),
            Network::Candle(network) => network.embed(ids),
        }
    }

    /// Runs a forward pass and appends the new keys and values to the KV caches.
    ///
    /// `hidden` is `[rows, hidden]`: the new rows of all sequences, in order. `positions` has one position id per row.
    /// Returns the hidden states after the final norm, `[rows, hidden]`.
    pub(crate) fn forward(
        &self,
        hidden: Tensor,
        positions: &[u32],
        sequences: &mut [Sequence<'_>],
    ) -> Result<Tensor, Error> {
        let hidden = match &self.network {
            Network::Cpu(network) => {
                let mut rows = floats(&hidden)?;
                network.forward(&mut rows, positions, sequences);
                self.tensor(rows)
            }
            Network::Candle(network) => network.forward(hidden, positions, sequences),
        }?;
        for sequence in sequences {
            sequence.cache.rows += sequence.rows;
        }
        Ok(hidden)
    }

    /// Returns the logits of hidden states `[rows, hidden]` in host memory, `[rows][vocabulary]`.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Vec<f32>, Error> {
        match &self.network {
            Network::Cpu(network) => Ok(network.logits(&floats(hidden)?)),
            Network::Candle(network) => floats(&network.logits(hidden)?),
        }
    }

    /// Returns the argmax of each row's logits, for hidden states `[rows, hidden]`.
    ///
    /// Ids in `masked` are excluded. `targets` has one id per row, whose logit is returned in [`Argmax::target`].
    pub(crate) fn argmax(
        &self,
        hidden: &Tensor,
        masked: &[u32],
        targets: Option<&[u32]>,
    ) -> Result<Vec<Argmax>, Error> {
        if let Network::Cpu(network) = &self.network {
            return Ok(network.argmax(&floats(hidden)?, masked, targets));
        }
        let rows = hidden.dim(0)?;
        let mut argmax = Vec::with_capacity(rows);
        for first in (0..rows).step_by(LOGIT_ROWS_MAX) {
            let count = LOGIT_ROWS_MAX.min(rows - first);
            let mut logits = self.logits(&hidden.narrow(0, first, count)?)?;
            let vocabulary = logits.len() / count;
            for (row, logits) in logits.chunks_exact_mut(vocabulary).enumerate() {
                masked.iter().for_each(|&id| logits[id as usize] = f32::NEG_INFINITY);
                argmax.push(Argmax::of(logits, targets.map(|ids| ids[first + row])));
            }
        }
        Ok(argmax)
    }

    /// Builds the layer that maps latents to hidden states. `weight` is `[hidden, latent width]`, `bias` is `[hidden]`.
    pub(crate) fn projector(&self, weight: Tensor, bias: Tensor) -> Result<Projector, Error> {
        match self.backend {
            Backend::Cpu(isa) => Ok(Projector::Cpu(Dense::new(isa, &floats(&weight)?, floats(&bias)?), self.hidden)),
            Backend::Candle(_) => Ok(Projector::Candle { weight, bias }),
        }
    }

    fn tensor(&self, rows: Vec<f32>) -> Result<Tensor, Error> {
        let count = rows.len() / self.hidden;
        Ok(Tensor::from_vec(rows, (count, self.hidden), &Device::Cpu)?)
    }
}

/// Linear layer from the compressor's latents to the decoder's hidden states.
pub(crate) enum Projector {
    /// Layer of the CPU backend, and the width of hidden states.
    Cpu(Dense, usize),
    /// Layer of the candle backend.
    Candle { weight: Tensor, bias: Tensor },
}

impl Projector {
    /// Projects `count` latents, `[count][latent width]`, to `[count, hidden]`.
    pub(crate) fn forward(&self, latents: &[f32], count: usize) -> Result<Tensor, Error> {
        match self {
            Self::Cpu(dense, hidden) => Ok(Tensor::from_vec(dense.forward(latents), (count, *hidden), &Device::Cpu)?),
            Self::Candle { weight, bias } => {
                let latents = Tensor::new(latents, weight.device())?.reshape((count, ()))?;
                let latents = latents.to_dtype(weight.dtype())?;
                Ok(latents.matmul(&weight.t()?)?.broadcast_add(bias)?)
            }
        }
    }
}

fn floats(tensor: &Tensor) -> Result<Vec<f32>, Error> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}
