//! The Qwen2 network, for both stages and both checkpoint layouts.
//!
//! A [`Network`] runs on one device. It takes the new rows of several sequences, packed without padding, and returns
//! what the caller needs of their last rows: hidden states, logits, or the argmax. No tensor crosses this trait, so
//! each backend keeps its data on its device, in its own layout. Norms and linear layers compute every row
//! independently. Only attention needs to know which sequence a row belongs to. The network follows Qwen2 as in
//! transformers 4.49, which the published code uses.
//!
//! There are three backends:
//!
//! - [`cpu`] runs quantised weights on a CPU with our own kernels;
//! - `cuda` runs quantised and dense weights on an NVIDIA GPU with our own kernels and cuBLAS;
//! - [`candle`] runs dense or dequantised weights on a CPU. It is slow, and the reference that tests compare with.

mod candle;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod select;

use crate::Error;
use crate::layout::Blocks;
pub(crate) use select::load;

/// A network with the weights of one stage, on one device.
pub(crate) trait Network: Send + Sync {
    /// Returns the name of the arithmetic: the order and precision of every operation. Networks with the same weights
    /// and arithmetic compute the same bits.
    fn arithmetic(&self) -> String;

    /// Returns the bytes per row of the KV cache, summed over all layers: an upper bound over all kinds of rows.
    fn kv_row_bytes(&self) -> usize;

    /// Returns a KV cache for one sequence, empty or with the rows of `prefix`. Fails if the device has no memory left.
    fn cache(&self, capacity: KvCapacity, prefix: Option<&KvCache>) -> Result<KvCache, Error>;

    /// Runs a pass and returns the hidden states of the output rows after the final norm, `[rows][hidden]`.
    fn hidden(&self, pass: &mut [Sequence<'_>]) -> Result<Vec<f32>, Error>;

    /// Runs a pass and returns the argmax of each output row's logits. The ids that were masked when the network was
    /// loaded are excluded. `targets` has one id per output row; [`Argmax::target`] is its logit.
    fn argmax(&self, pass: &mut [Sequence<'_>], targets: Option<&[u32]>) -> Result<Vec<Argmax>, Error>;

    /// Runs a pass and returns the logits of the output rows, `[rows][vocabulary]`. No id is masked.
    fn logits(&self, pass: &mut [Sequence<'_>]) -> Result<Vec<f32>, Error>;

    /// Runs a pass and returns the id with the largest logit of each output row, the smallest such id on a tie.
    /// `banned` has the ids that each row excludes. No other id is masked.
    fn greedy(&self, pass: &mut [Sequence<'_>], banned: &[Vec<u32>]) -> Result<Vec<u32>, Error> {
        let mut logits = self.logits(pass)?;
        let vocabulary = logits.len() / banned.len().max(1);
        let rows = logits.chunks_exact_mut(vocabulary.max(1)).zip(banned);
        Ok(rows.map(|(logits, banned)| greedy(logits, banned)).collect())
    }

    /// Fails with [`Error::Gpu`] if the device has failed and cannot be used any more.
    fn check_device(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Projects latents, `[count][latent width]`, to hidden states, `[count][hidden]`.
    fn project(&self, latents: &[f32]) -> Result<Vec<f32>, Error>;
}

/// New rows of one sequence in a pass. The pass appends their keys and values to `cache`.
pub(crate) struct Sequence<'a> {
    /// Keys and values of the earlier rows.
    pub(crate) cache: &'a mut KvCache,
    /// Input of the new rows, in their order.
    pub(crate) input: Vec<Input<'a>>,
    /// Position id of each new row.
    pub(crate) positions: Vec<u32>,
    /// Attention pattern of the whole sequence.
    pub(crate) pattern: Pattern,
    /// Number of output rows: new rows at the end whose result the caller needs.
    pub(crate) outputs: usize,
}

impl Sequence<'_> {
    /// Number of new rows.
    pub(crate) fn rows(&self) -> usize {
        self.positions.len()
    }
}

/// Input of consecutive rows.
pub(crate) enum Input<'a> {
    /// Token ids, one per row.
    Tokens(Vec<u32>),
    /// Latents, `[rows][latent width]`. The projector maps each to a hidden state.
    Latents(&'a [f32]),
    /// The first rows of the query embedding, as many as this number.
    Queries(usize),
}

/// Layer of a stage outside the Qwen2 network, with f32 weights in row-major order.
pub(crate) enum InputLayer {
    /// Query embedding of the compressor, `[latent_token_len][hidden]`.
    Queries(Vec<f32>),
    /// Linear layer of the decoder from latents to hidden states.
    Projector {
        /// `[hidden][latent width]`
        weight: Vec<f32>,
        /// `[hidden]`
        bias: Vec<f32>,
    },
}

/// Number and width of attention heads.
#[derive(Clone, Copy, Debug)]
struct Heads {
    query: usize,
    key: usize,
    dim: usize,
}

impl Heads {
    /// Number of query heads per key head.
    #[inline(always)]
    fn group(self) -> usize {
        self.query / self.key
    }
}

/// Attention pattern of a sequence. Every row attends to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// A row attends to all earlier rows.
    Causal,
    /// A prompt row attends to all earlier rows. A slot, the row that predicts one text token, attends to the whole
    /// prompt and to the earlier slots of its own block.
    Blocks(Blocks),
}

impl Pattern {
    /// Returns the pattern of a prompt with blocks: [`Self::Causal`] for a single block.
    pub(crate) fn blocks(blocks: Blocks) -> Self {
        if blocks.count() == 1 { Self::Causal } else { Self::Blocks(blocks) }
    }
}

/// Maximum rows that a KV cache can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KvCapacity {
    /// Rows that attend to all earlier rows.
    pub(crate) causal: usize,
    /// Slots of blocks.
    pub(crate) slots: usize,
}

impl KvCapacity {
    /// Returns the capacity for `rows` causal rows.
    pub(crate) fn causal(rows: usize) -> Self {
        Self { causal: rows, slots: 0 }
    }

    /// Returns the capacity for a prompt and the slots after it.
    pub(crate) fn blocks(blocks: Blocks) -> Self {
        match Pattern::blocks(blocks) {
            Pattern::Causal => Self::causal(blocks.prompt + blocks.tokens),
            Pattern::Blocks(blocks) => Self { causal: blocks.prompt, slots: blocks.tokens },
        }
    }
}

/// KV cache of one sequence.
pub(crate) struct KvCache {
    layers: Layers,
    rows: usize,
}

/// Keys and values of all layers.
enum Layers {
    Cpu(Vec<cpu::LayerKv>),
    Candle(Vec<candle::LayerCache>),
    #[cfg(feature = "cuda")]
    Cuda(cuda::KvBuffer),
}

impl KvCache {
    /// Number of cached rows, equal in all layers.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    fn cpu(&self) -> &[cpu::LayerKv] {
        match &self.layers {
            Layers::Cpu(layers) => layers,
            _ => &[],
        }
    }

    fn cpu_mut(&mut self) -> &mut [cpu::LayerKv] {
        match &mut self.layers {
            Layers::Cpu(layers) => layers,
            _ => &mut [],
        }
    }

    fn candle(&self) -> &[candle::LayerCache] {
        match &self.layers {
            Layers::Candle(layers) => layers,
            _ => &[],
        }
    }

    fn candle_mut(&mut self) -> &mut [candle::LayerCache] {
        match &mut self.layers {
            Layers::Candle(layers) => layers,
            _ => &mut [],
        }
    }
}

/// Counts the new rows of a pass as cached. Every backend calls this at the end of a pass.
fn advance(pass: &mut [Sequence<'_>]) {
    for sequence in pass {
        sequence.cache.rows += sequence.rows();
    }
}

/// Returns the output rows of `rows`, `[all new rows of the pass][width]`.
fn outputs(pass: &[Sequence<'_>], rows: &[f32], width: usize) -> Vec<f32> {
    let mut outputs = Vec::with_capacity(pass.iter().map(|sequence| sequence.outputs * width).sum());
    let mut end = 0;
    for sequence in pass {
        end += sequence.rows();
        outputs.extend_from_slice(&rows[(end - sequence.outputs) * width..end * width]);
    }
    outputs
}

/// Returns the id with the largest of `logits`, one per vocabulary id. Sets those of `banned` ids to minus infinity.
pub(crate) fn greedy(logits: &mut [f32], banned: &[u32]) -> u32 {
    for &id in banned {
        logits[id as usize] = f32::NEG_INFINITY;
    }
    Argmax::of(logits, None).id
}

/// Error of a pass with latents through a network that has no projector.
fn no_projector() -> Error {
    Error::input("the compressor takes no latents: send them to a decoder")
}

/// Error of a pass with queries through a network that has no query embedding.
fn no_queries() -> Error {
    Error::input("the decoder has no query embedding: compress with a compressor")
}

/// Result of greedy decoding for one row. The logits of masked ids are minus infinity.
#[derive(Clone, Copy, Debug, PartialEq)]
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
