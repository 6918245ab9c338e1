//! The Qwen2 network, once for both stages and both checkpoint layouts, for dense and quantised weights.
//!
//! A forward pass takes rows of hidden states, packed without padding: runs of rows of several sequences one after the
//! other. Norms and products act on all rows at once; attention alone knows where a sequence begins and what each of
//! its rows sees. Follows Qwen2 as in transformers 4.49, which the published code runs on.
//!
//! Two implementations: [`candle`] for dense weights on any device, in candle's operations, and [`host`] for quantised
//! weights on a CPU, in kernels of ours with one named arithmetic.

mod candle;
pub(crate) mod host;

use candle_core::{DType, Tensor};

use crate::Error;
use crate::checkpoint::Checkpoint;
use crate::device::Numbers;
use crate::layout::Blocks;
use host::{Dense, LayerKv};

/// Rows whose logits are on the host at once where a card computed them: 16 MB for the default model.
const LOGIT_ROWS_MAX: usize = 256;

/// A run of new rows of one sequence.
pub(crate) struct Sequence<'a> {
    /// Keys and values of the rows before; the new ones are appended.
    pub(crate) cache: &'a mut KvCache,
    /// Number of new rows.
    pub(crate) rows: usize,
    /// What each row sees.
    pub(crate) pattern: Pattern,
}

/// Number and width of heads.
#[derive(Clone, Copy, Debug)]
struct Heads {
    query: usize,
    key: usize,
    dim: usize,
}

/// What each row of a sequence sees. Every row sees itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// All rows before it.
    Causal,
    /// In the prompt: the rows before it. In a block: the whole prompt and its own block's slots before it.
    Blocks(Blocks),
}

impl Pattern {
    /// A prompt and its blocks. A single block is one sequence with its prompt.
    pub(crate) fn blocks(blocks: Blocks) -> Self {
        if blocks.count() == 1 { Self::Causal } else { Self::Blocks(blocks) }
    }
}

/// Keys and values of the rows of one sequence.
#[derive(Clone)]
pub(crate) struct KvCache {
    layers: Layers,
    rows: usize,
}

/// Keys and values, layer by layer.
#[derive(Clone)]
enum Layers {
    Host(Vec<LayerKv>),
    Candle(Vec<candle::LayerCache>),
}

impl KvCache {
    /// Rows that every layer holds.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    fn host(&self) -> &[LayerKv] {
        match &self.layers {
            Layers::Host(layers) => layers,
            Layers::Candle(_) => &[],
        }
    }

    fn host_mut(&mut self) -> &mut [LayerKv] {
        match &mut self.layers {
            Layers::Host(layers) => layers,
            Layers::Candle(_) => &mut [],
        }
    }

    fn candle_mut(&mut self) -> &mut [candle::LayerCache] {
        match &mut self.layers {
            Layers::Candle(layers) => layers,
            Layers::Host(_) => &mut [],
        }
    }
}

/// The token with the largest logit, and what stands beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Best {
    /// The smallest id where several logits are equal.
    pub(crate) id: u32,
    pub(crate) logit: f32,
    /// The largest logit but for that one.
    pub(crate) second: f32,
    /// The logit of the token that was asked for.
    pub(crate) truth: f32,
}

impl Best {
    /// Of one row's logits.
    pub(crate) fn of(logits: &[f32], truth: Option<u32>) -> Self {
        let logit = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let id = logits.iter().position(|&x| x == logit).unwrap_or_default();
        let (before, behind) = (&logits[..id], &logits[id + 1..]);
        let second = before.iter().chain(behind).copied().fold(f32::NEG_INFINITY, f32::max);
        let truth = truth.map_or(f32::NEG_INFINITY, |id| logits[id as usize]);
        Self { id: id as u32, logit, second, truth }
    }
}

/// A Qwen2 network.
pub(crate) struct Qwen2 {
    hidden: usize,
    numbers: Numbers,
    kind: Kind,
}

enum Kind {
    Host(Box<host::Network>),
    Candle(Box<candle::Network>),
}

impl Qwen2 {
    /// Reads the weights of the stage that was opened.
    pub(crate) fn load(checkpoint: &mut Checkpoint) -> Result<Self, Error> {
        let (config, numbers) = (&checkpoint.network, checkpoint.numbers);
        let kind = match numbers {
            Numbers::Int8(isa) => {
                Kind::Host(Box::new(host::Network::load(&mut checkpoint.weights, config, isa)?))
            }
            Numbers::Dense(dtype) => Kind::Candle(Box::new(candle::Network::load(
                &mut checkpoint.weights,
                config,
                dtype,
                &checkpoint.device,
            )?)),
        };
        Ok(Self { hidden: config.hidden, numbers, kind })
    }

    /// Width of a hidden state.
    pub(crate) fn hidden(&self) -> usize {
        self.hidden
    }

    /// An empty cache for one sequence.
    pub(crate) fn cache(&self) -> KvCache {
        let layers = match &self.kind {
            Kind::Host(network) => Layers::Host(network.cache()),
            Kind::Candle(network) => Layers::Candle(network.cache()),
        };
        KvCache { layers, rows: 0 }
    }

    /// Bytes that a row of keys and values takes, all layers together.
    pub(crate) fn kv_row_bytes(&self) -> usize {
        match &self.kind {
            Kind::Host(network) => network.kv_row_bytes(),
            Kind::Candle(network) => network.kv_row_bytes(),
        }
    }

    /// Rows of the token table: `[ids, hidden]`.
    pub(crate) fn embed(&self, ids: &[u32]) -> Result<Tensor, Error> {
        match &self.kind {
            Kind::Host(network) => self.tensor(network.embed(ids)),
            Kind::Candle(network) => network.embed(ids),
        }
    }

    /// Runs `hidden` `[rows, hidden]`, the new rows of all sequences in order, and returns the hidden states after the
    /// final norm, `[rows, hidden]`. `positions` are the rows' position ids.
    pub(crate) fn forward(
        &self,
        hidden: Tensor,
        positions: &[u32],
        sequences: &mut [Sequence<'_>],
    ) -> Result<Tensor, Error> {
        let hidden = match &self.kind {
            Kind::Host(network) => {
                let mut rows = floats(&hidden)?;
                network.forward(&mut rows, positions, sequences);
                self.tensor(rows)
            }
            Kind::Candle(network) => network.forward(hidden, positions, sequences),
        }?;
        for sequence in sequences {
            sequence.cache.rows += sequence.rows;
        }
        Ok(hidden)
    }

    /// Logits of hidden states `[rows, hidden]`, row after row on the host, `vocabulary` floats each.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Vec<f32>, Error> {
        match &self.kind {
            Kind::Host(network) => Ok(network.logits(&floats(hidden)?)),
            Kind::Candle(network) => floats(&network.logits(hidden)?),
        }
    }

    /// The best token of each of `hidden`'s rows `[rows, hidden]`, ids of `skip` left out. `truth` names a token of each
    /// row whose logit is told.
    pub(crate) fn best(
        &self,
        hidden: &Tensor,
        skip: &[u32],
        truth: Option<&[u32]>,
    ) -> Result<Vec<Best>, Error> {
        if let Kind::Host(network) = &self.kind {
            return Ok(network.best(&floats(hidden)?, skip, truth));
        }
        let rows = hidden.dim(0)?;
        let mut best = Vec::with_capacity(rows);
        for first in (0..rows).step_by(LOGIT_ROWS_MAX) {
            let count = LOGIT_ROWS_MAX.min(rows - first);
            let mut logits = self.logits(&hidden.narrow(0, first, count)?)?;
            let vocabulary = logits.len() / count;
            for (row, logits) in logits.chunks_exact_mut(vocabulary).enumerate() {
                skip.iter().for_each(|&id| logits[id as usize] = f32::NEG_INFINITY);
                best.push(Best::of(logits, truth.map(|ids| ids[first + row])));
            }
        }
        Ok(best)
    }

    /// The layer from latents to hidden states: `weight` is `[hidden, latent width]`, `bias` `[hidden]`.
    pub(crate) fn projector(&self, weight: Tensor, bias: Tensor) -> Result<Projector, Error> {
        match self.numbers {
            Numbers::Int8(isa) => {
                Ok(Projector::Host(Dense::new(isa, &floats(&weight)?, floats(&bias)?), self.hidden))
            }
            Numbers::Dense(_) => Ok(Projector::Candle { weight, bias }),
        }
    }

    fn tensor(&self, rows: Vec<f32>) -> Result<Tensor, Error> {
        let count = rows.len() / self.hidden;
        Ok(Tensor::from_vec(rows, (count, self.hidden), &candle_core::Device::Cpu)?)
    }
}

/// Latents of the compressor's width to hidden states of the decoder's: dense, at either end of the wire.
pub(crate) enum Projector {
    /// In the host's arithmetic, and how wide its rows are.
    Host(Dense, usize),
    /// On any device.
    Candle { weight: Tensor, bias: Tensor },
}

impl Projector {
    /// `count` latents, row after row, to `[count, hidden]`.
    pub(crate) fn forward(&self, values: &[f32], count: usize) -> Result<Tensor, Error> {
        match self {
            Self::Host(dense, hidden) => {
                Ok(Tensor::from_vec(dense.forward(values), (count, *hidden), &candle_core::Device::Cpu)?)
            }
            Self::Candle { weight, bias } => {
                let latents = Tensor::new(values, weight.device())?.reshape((count, ()))?;
                let latents = latents.to_dtype(weight.dtype())?;
                Ok(latents.matmul(&weight.t()?)?.broadcast_add(bias)?)
            }
        }
    }
}

fn floats(tensor: &Tensor) -> Result<Vec<f32>, Error> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}
