//! Attention: what each row of a sequence sees, computed by a kernel of ours on the CPU and by candle on a card.

mod device;
mod host;

use candle_core::Tensor;

use super::Sequence;
use super::cache::LayerCache;
use crate::Error;
use crate::layout::Blocks;

/// What each row of a sequence sees. Every row sees itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// All rows before it.
    Causal,
    /// In the prompt: the rows before it. In a block: the whole prompt and its own block's slots before it.
    Blocks(Blocks),
}

impl Pattern {
    /// The rows that `row` sees: the first so many, and then these.
    fn sees(&self, row: usize, own: &mut Vec<u32>) -> usize {
        own.clear();
        match self {
            Self::Blocks(blocks) if row >= blocks.prompt => {
                let (block, step) = blocks.place(row);
                own.extend((0..=step).map(|step| blocks.row(block, step) as u32));
                blocks.prompt
            }
            _ => row + 1,
        }
    }
}

/// Number and width of heads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    pub(super) query: usize,
    pub(super) key: usize,
    pub(super) dim: usize,
}

/// What stays the same from layer to layer of a forward pass.
pub(super) enum Plan {
    Host,
    /// One mask a sequence: `[new rows, rows]`, 0 where seen.
    Device(Vec<Tensor>),
}

impl Plan {
    pub(super) fn new(sequences: &[Sequence<'_>], hidden: &Tensor) -> Result<Self, Error> {
        if hidden.device().is_cpu() {
            return Ok(Self::Host);
        }
        sequences
            .iter()
            .map(|sequence| device::mask(sequence, hidden))
            .collect::<Result<_, _>>()
            .map(Self::Device)
    }

    /// Appends the new rows' keys and values to the sequences' caches and mixes the values that each row sees.
    /// `q` is `[rows, query heads * dim]`, `k` and `v` `[rows, key heads * dim]`; so the result is as `q`.
    pub(super) fn attend(
        &self,
        layer: usize,
        sequences: &mut [Sequence<'_>],
        heads: Heads,
        [q, k, v]: [&Tensor; 3],
    ) -> Result<Tensor, Error> {
        match self {
            Self::Host => host::attend(layer, sequences, heads, [q, k, v]),
            Self::Device(masks) => {
                let mut mixed = Vec::with_capacity(sequences.len());
                let mut first = 0;
                for (sequence, mask) in sequences.iter_mut().zip(masks) {
                    let rows = |x: &Tensor| x.narrow(0, first, sequence.rows);
                    let cache: &mut LayerCache = sequence.cache.layer_mut(layer);
                    let [keys, values] = cache.append(&rows(k)?, &rows(v)?)?;
                    mixed.push(device::attend(&rows(q)?, &keys, &values, mask, heads)?);
                    first += sequence.rows;
                }
                Ok(Tensor::cat(&mixed, 0)?)
            }
        }
    }
}
