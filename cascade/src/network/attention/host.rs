//! Attention on the CPU.
//!
//! Each row is computed for itself, over exactly the rows that it sees, in one order of sums: so its result does not
//! depend on what else is in the batch, on the number of threads or on the width of the machine's vectors, and decoding
//! step by step gives the very bits that verifying at once gives.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::{Heads, Pattern, Sequence};
use crate::Error;
use crate::network::cache::LayerCache;
use crate::network::cpu::for_this_cpu;
use crate::network::exp::exp;

/// Sums run in so many lanes side by side, which are added up as a tree.
const LANES: usize = 16;
/// Rows that one task takes.
const ROWS_MIN: usize = 4;

/// One new row: what it sees and where.
struct Row<'a> {
    number: usize,
    pattern: Pattern,
    k: &'a [f32],
    v: &'a [f32],
}

/// See [`super::Plan::attend`].
pub(super) fn attend(
    layer: usize,
    sequences: &mut [Sequence<'_>],
    heads: Heads,
    [q, k, v]: [&Tensor; 3],
) -> Result<Tensor, Error> {
    let (count, width) = q.dims2()?;
    let [q, new_k, new_v] =
        [q.flatten_all()?.to_vec1::<f32>()?, k.flatten_all()?.to_vec1()?, v.flatten_all()?.to_vec1()?];
    let kv_width = heads.key * heads.dim;
    let mut first = 0;
    for sequence in sequences.iter_mut() {
        let new = first * kv_width..(first + sequence.rows) * kv_width;
        let LayerCache::Host { k, v } = sequence.cache.layer_mut(layer) else {
            return Err(Error::Device("a cache of a card was given to the CPU".into()));
        };
        k.extend_from_slice(&new_k[new.clone()]);
        v.extend_from_slice(&new_v[new]);
        first += sequence.rows;
    }
    let mut rows = Vec::with_capacity(count);
    for sequence in sequences.iter() {
        let LayerCache::Host { k, v } = sequence.cache.layer(layer) else { continue };
        let before = sequence.cache.rows();
        let row = |row| Row { number: before + row, pattern: sequence.pattern, k, v };
        rows.extend((0..sequence.rows).map(row));
    }
    let mut mixed = vec![0.0; count * width];
    let work = mixed.par_chunks_exact_mut(width).zip(q.par_chunks_exact(width)).zip(&rows);
    work.with_min_len(ROWS_MIN).for_each_init(Scratch::default, |scratch, ((mixed, q), row)| {
        dispatch(row, q, mixed, heads, scratch);
    });
    Ok(Tensor::from_vec(mixed, (count, width), &Device::Cpu)?)
}

/// Buffers that a task uses again.
#[derive(Default)]
struct Scratch {
    own: Vec<u32>,
    scores: Vec<f32>,
}

for_this_cpu! {
    /// Mixes all heads of one row.
    fn dispatch(row: &Row<'_>, q: &[f32], mixed: &mut [f32], heads: Heads, scratch: &mut Scratch) = attend_row;
}

/// All heads of one row.
#[inline(always)]
fn attend_row(row: &Row<'_>, q: &[f32], mixed: &mut [f32], heads: Heads, scratch: &mut Scratch) {
    let Heads { key, dim, query } = heads;
    let (group, stride) = (query / key, key * dim);
    let lead = row.pattern.sees(row.number, &mut scratch.own);
    let own = &scratch.own;
    let seen = lead + own.len();
    let scale = 1.0 / (dim as f32).sqrt();
    scratch.scores.resize(seen, 0.0);
    let scores = &mut scratch.scores[..seen];
    for head in 0..query {
        let q = &q[head * dim..][..dim];
        let column = head / group * dim;
        let (of_lead, of_own) = scores.split_at_mut(lead);
        for (i, score) in of_lead.iter_mut().enumerate() {
            *score = dot(q, &row.k[i * stride + column..][..dim]) * scale;
        }
        for (&i, score) in own.iter().zip(of_own) {
            *score = dot(q, &row.k[i as usize * stride + column..][..dim]) * scale;
        }
        let sum = softmax_numerators(scores);
        let mixed = &mut mixed[head * dim..][..dim];
        for (chunk, mixed) in mixed.chunks_exact_mut(LANES).enumerate() {
            let column = column + chunk * LANES;
            let mut total = [0.0; LANES];
            let (of_lead, of_own) = scores.split_at(lead);
            for (i, &weight) in of_lead.iter().enumerate() {
                add_scaled(&mut total, weight, &row.v[i * stride + column..][..LANES]);
            }
            for (&i, &weight) in own.iter().zip(of_own) {
                add_scaled(&mut total, weight, &row.v[i as usize * stride + column..][..LANES]);
            }
            for (mixed, total) in mixed.iter_mut().zip(total) {
                *mixed = total / sum;
            }
        }
    }
}

#[inline(always)]
fn add_scaled(total: &mut [f32; LANES], weight: f32, values: &[f32]) {
    for lane in 0..LANES {
        total[lane] = weight.mul_add(values[lane], total[lane]);
    }
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut total = [0.0; LANES];
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for lane in 0..LANES {
            total[lane] = a[lane].mul_add(b[lane], total[lane]);
        }
    }
    sum_lanes(total)
}

/// Replaces scores by `e^(score - largest)` and returns their sum.
#[inline(always)]
fn softmax_numerators(scores: &mut [f32]) -> f32 {
    let mut largest = [f32::NEG_INFINITY; LANES];
    for chunk in scores.chunks(LANES) {
        for (largest, &score) in largest.iter_mut().zip(chunk) {
            *largest = largest.max(score);
        }
    }
    let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut total = [0.0; LANES];
    for chunk in scores.chunks_mut(LANES) {
        for (total, score) in total.iter_mut().zip(chunk) {
            *score = exp(*score - largest);
            *total += *score;
        }
    }
    sum_lanes(total)
}

/// Adds up lanes as a tree.
#[inline(always)]
fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}
