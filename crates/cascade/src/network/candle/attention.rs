//! Attention with candle's operations: one sequence at a time, with a dense mask.

use candle_core::{D, Device, Tensor};

use super::{Heads, Pattern, Sequence};
use crate::Error;

/// Keys and values of one layer, `[rows, kv heads * dim]` each; `None` if empty.
#[derive(Clone, Default)]
pub(in crate::network) struct LayerCache(Option<[Tensor; 2]>);

impl LayerCache {
    /// Appends the keys and values of new rows. Returns the keys and values of all rows.
    pub(super) fn append(&mut self, k: &Tensor, v: &Tensor) -> Result<[Tensor; 2], Error> {
        let grown = match &self.0 {
            Some([old_k, old_v]) => [Tensor::cat(&[old_k, k], 0)?, Tensor::cat(&[old_v, v], 0)?],
            None => [k.contiguous()?, v.contiguous()?],
        };
        Ok(self.0.insert(grown).clone())
    }
}

/// Returns the additive attention mask `[new rows, all rows]`: 0 for visible rows, minus infinity for all others.
pub(super) fn mask(sequence: &Sequence<'_>) -> Result<Tensor, Error> {
    let before = sequence.cache.rows();
    let all = before + sequence.rows();
    let mut mask = vec![f32::NEG_INFINITY; sequence.rows() * all];
    for (row, mask) in mask.chunks_exact_mut(all).enumerate() {
        let row = before + row;
        match sequence.pattern {
            Pattern::Blocks(blocks) if row >= blocks.prompt => {
                let (block, step) = blocks.locate(row);
                mask[..blocks.prompt].fill(0.0);
                (0..=step).for_each(|step| mask[blocks.row(block, step)] = 0.0);
            }
            _ => mask[..=row].fill(0.0),
        }
    }
    Ok(Tensor::from_vec(mask, (sequence.rows(), all), &Device::Cpu)?)
}

/// Computes grouped-query attention of one sequence. `q` and the result are `[new rows, query heads * dim]`, `k` and
/// `v` are `[all rows, key heads * dim]`, `mask` is `[new rows, all rows]`.
pub(super) fn attend(q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor, heads: Heads) -> Result<Tensor, Error> {
    let (new, all) = (q.dim(0)?, k.dim(0)?);
    let group = heads.query / heads.key;
    let q = q.reshape((new, heads.key, group, heads.dim))?.permute((1, 2, 0, 3))?.contiguous()?;
    let q = q.reshape((heads.key, group * new, heads.dim))?;
    let k = k.reshape((all, heads.key, heads.dim))?.permute((1, 2, 0))?.contiguous()?;
    let v = v.reshape((all, heads.key, heads.dim))?.transpose(0, 1)?.contiguous()?;
    let scores = (q.matmul(&k)? * (heads.dim as f64).powf(-0.5))?; // [key heads, group * new, all]
    let scores = scores.reshape((heads.query, new, all))?.broadcast_add(mask)?;
    let weights = candle_nn::ops::softmax(&scores, D::Minus1)?.reshape((heads.key, group * new, all))?;
    let mixed = weights.matmul(&v)?.reshape((heads.query, new, heads.dim))?;
    Ok(mixed.transpose(0, 1)?.contiguous()?.reshape((new, heads.query * heads.dim))?)
}
