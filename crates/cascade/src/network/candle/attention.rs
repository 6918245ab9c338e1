//! Attention in candle's operations: one sequence at a time, everything it could see behind a mask.

use candle_core::{D, Tensor};

use super::{Heads, Pattern, Sequence};
use crate::Error;

/// 0 where a new row sees a row, minus infinity elsewhere: `[new rows, rows]`.
pub(super) fn mask(sequence: &Sequence<'_>, hidden: &Tensor) -> Result<Tensor, Error> {
    let before = sequence.cache.rows();
    let all = before + sequence.rows;
    let mut mask = vec![f32::NEG_INFINITY; sequence.rows * all];
    let mut own = Vec::new();
    for (row, seen) in mask.chunks_exact_mut(all).enumerate() {
        let lead = sees(sequence.pattern, before + row, &mut own);
        seen[..lead].fill(0.0);
        own.iter().for_each(|&row| seen[row as usize] = 0.0);
    }
    let mask = Tensor::from_vec(mask, (sequence.rows, all), hidden.device())?;
    Ok(mask.to_dtype(hidden.dtype())?)
}

/// The rows that `row` sees: the first so many, and then `own`.
fn sees(pattern: Pattern, row: usize, own: &mut Vec<u32>) -> usize {
    own.clear();
    match pattern {
        Pattern::Blocks(blocks) if row >= blocks.prompt => {
            let (block, step) = blocks.place(row);
            own.extend((0..=step).map(|step| blocks.row(block, step) as u32));
            blocks.prompt
        }
        _ => row + 1,
    }
}

/// `q` is `[new, query heads * dim]`, `k` and `v` `[all, key heads * dim]`.
pub(super) fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: &Tensor,
    heads: Heads,
) -> Result<Tensor, Error> {
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
