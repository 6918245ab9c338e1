//! Attention.
//!
//! Over the lead, scores are products of int8 queries and keys, as any product here, and so is the mix of values: of int8
//! values with weights that are rounded once more, 32 rows at a time. All sums run in one order, which depends only on what
//! the row sees. What shares keys is computed together, so that they are read once: rows of a prompt, and the slots of a
//! step, which see the same prompt. The slots of 16 blocks lie in 16 lanes; what they see of their own is mixed in f32.

use std::ops::Range;

use super::Heads;
use super::exp::exp;
use super::kv::{LayerKv, Lead, Own};
use super::product::{each_row, each_row_of};
use super::rows::{Rows, load, round_block};
use super::rowwise::sum_lanes;
use super::simd::{LANES, Simd, kernel};
use super::weight::BLOCK;

/// Rows of a prompt that are computed together.
pub(super) const LEAD_ROWS: usize = 16;
/// Scores that are held at once, so that they, the keys and the values stay in a core's second cache.
const SCORES_MAX: usize = 1 << 15;
/// Query rows whose scores are computed side by side at least.
const QUERIES_MIN: usize = 8;

/// Rows that are computed together.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    /// Rows of the lead from this number on.
    Lead { first: usize },
    /// Slots at `step` of a group of 16 blocks out of `groups`.
    Slots { step: usize, group: usize, groups: usize },
}

/// Buffers that a thread uses again.
#[derive(Default)]
pub(super) struct Scratch {
    /// Scaled queries of the heads that share keys: `[rows * heads][dim]`.
    queries: Rows,
    /// The scores of some of them over the lead: `[rows * heads][lead rows]`, in whole blocks of 32.
    scores: Vec<f32>,
    /// What the lead's values are mixed by, their scales in it: `[rows * heads][lead rows]` of the same.
    weights: Rows,
    /// The mix of the lead's values: `[rows * heads][dim]`.
    mixed: Vec<f32>,
    /// What divides the mix: one a query row.
    sums: Vec<f32>,
    /// Queries of 16 blocks: `[dim / 4][16][4]`, their scales and offsets, `[dim / 32][16]` each.
    own_queries: Vec<[u8; 4 * LANES]>,
    own_scales: Vec<[f32; LANES]>,
    own_offsets: Vec<[i32; LANES]>,
    /// Scores over the own blocks: `[step][16]`.
    own_scores: Vec<[f32; LANES]>,
    /// The mix of the own blocks' values: `[dim][16]`.
    own_mixed: Vec<[f32; LANES]>,
}

kernel! {
    /// Mixes the values that a unit's rows see. `q` and `out` are rows of `heads.query * heads.dim`.
    pub(super) fn attend(
        unit: Unit,
        kv: &LayerKv,
        heads: Heads,
        q: &[f32],
        out: &mut [f32],
        scratch: &mut Scratch,
    ) = attend_body;
}

#[inline(always)]
fn attend_body<S: Simd>(
    simd: S,
    unit: Unit,
    kv: &LayerKv,
    heads: Heads,
    q: &[f32],
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    out.fill(0.0);
    for head in 0..heads.key {
        scratch.take_queries(simd, heads, head, q);
        match unit {
            Unit::Lead { first } => {
                let seen = first + out.len() / (heads.query * heads.dim);
                let count = scratch.queries.count;
                let some = (SCORES_MAX / seen).max(QUERIES_MIN) / QUERIES_MIN * QUERIES_MIN;
                for start in (0..count).step_by(some) {
                    let part = start..(start + some).min(count);
                    scores(simd, &kv.lead, heads, head, seen, part.clone(), scratch);
                    softmax_lead(simd, &kv.lead, heads, head, first, part.clone(), scratch);
                    mix(simd, &kv.lead, heads, head, seen, part, scratch);
                }
            }
            Unit::Slots { step, group, groups } => {
                let all = 0..scratch.queries.count;
                scores(simd, &kv.lead, heads, head, kv.lead.rows, all.clone(), scratch);
                for query in 0..heads.group() {
                    let place = Place { head, query, step, group, groups };
                    own_scores(simd, &kv.own, heads, place, scratch);
                    scratch.softmax_slots(kv.lead.rows, heads, query);
                    own_mix(simd, &kv.own, heads, place, scratch);
                    scratch.give_slots(heads, place, out);
                }
                for row in all.clone() {
                    weigh(simd, &kv.lead, head, row, scratch);
                }
                mix(simd, &kv.lead, heads, head, kv.lead.rows, all, scratch);
            }
        }
        scratch.add_lead(heads, head, out);
    }
}

/// A query head over the blocks of a group.
#[derive(Clone, Copy)]
struct Place {
    /// Key head.
    head: usize,
    /// Which of the query heads that share it.
    query: usize,
    step: usize,
    group: usize,
    groups: usize,
}

/// Scores of these query rows over the first `seen` rows of the lead.
#[inline(always)]
fn scores<S: Simd>(
    simd: S,
    lead: &Lead,
    heads: Heads,
    head: usize,
    seen: usize,
    of: Range<usize>,
    scratch: &mut Scratch,
) {
    let (tiles, width) = (seen.div_ceil(LANES), seen.div_ceil(BLOCK) * BLOCK);
    let Scratch { queries, scores, weights, .. } = scratch;
    scores.resize(of.len() * width, 0.0);
    weights.resize(of.len(), width);
    let scores = scores.as_chunks_mut().0;
    for tile in 0..tiles {
        let keys = lead.keys(heads, head, tile);
        let at = |row: usize| (row - of.start) * width / LANES + tile;
        each_row_of(simd, keys, queries, of.clone(), |row, total| simd.store(total, &mut scores[at(row)]));
    }
}

/// Softmax of query rows of the lead, which see all rows up to their own: each row's weights as soon as it has them.
#[inline(always)]
fn softmax_lead<S: Simd>(
    simd: S,
    lead: &Lead,
    heads: Heads,
    head: usize,
    first: usize,
    of: Range<usize>,
    scratch: &mut Scratch,
) {
    let width = scratch.weights.blocks * BLOCK;
    for (at, row) in of.enumerate() {
        let seen = first + row / heads.group() + 1;
        let (scores, unseen) = scratch.scores[at * width..(at + 1) * width].split_at_mut(seen);
        let largest = largest(scores);
        scratch.sums[row] = numerators(scores, largest);
        unseen.fill(0.0);
        weigh(simd, lead, head, at, scratch);
    }
}

/// What the lead's values are mixed by, of one row of scores: int8, the values' scales in it.
#[inline(always)]
fn weigh<S: Simd>(simd: S, lead: &Lead, head: usize, row: usize, scratch: &mut Scratch) {
    let Scratch { scores, weights, .. } = scratch;
    let blocks = row * weights.blocks..(row + 1) * weights.blocks;
    let scores = &scores.as_chunks().0[blocks.clone()];
    for ((at, scores), scales) in blocks.zip(scores).zip(&lead.values(head).scales) {
        let (scores, scales) = (load(simd, scores), load(simd, scales));
        round_block(simd, [simd.mul(scores[0], scales[0]), simd.mul(scores[1], scales[1])], at, weights);
    }
}

/// Mixes the values of the first `seen` rows of the lead for these query rows.
#[inline(always)]
fn mix<S: Simd>(
    simd: S,
    lead: &Lead,
    heads: Heads,
    head: usize,
    seen: usize,
    of: Range<usize>,
    scratch: &mut Scratch,
) {
    let (chunks, blocks) = (heads.dim / LANES, seen.div_ceil(BLOCK));
    let Scratch { queries, weights, mixed, .. } = scratch;
    mixed.resize(queries.count * heads.dim, 0.0);
    let mixed = mixed.as_chunks_mut().0;
    for (chunk, tile) in lead.values(head).tiles.iter().enumerate() {
        each_row(simd, &tile[..blocks], weights, |row, total| {
            simd.store(total, &mut mixed[(of.start + row) * chunks + chunk]);
        });
    }
}

/// Scores of 16 blocks over their own slots up to their own.
#[inline(always)]
fn own_scores<S: Simd>(simd: S, own: &Own, heads: Heads, place: Place, scratch: &mut Scratch) {
    let Place { head, query, step, group, groups } = place;
    scratch.take_own_queries(heads, query);
    let Scratch { own_queries, own_scales, own_offsets, own_scores, .. } = scratch;
    own_scores.resize(step + 1, [0.0; LANES]);
    for (step, scores) in own_scores.iter_mut().enumerate() {
        let keys = own.keys(heads, head, step * groups + group);
        let mut total = simd.splat(0.0);
        let queries =
            own_queries.as_chunks::<{ BLOCK / 4 }>().0.iter().zip(own_scales.iter().zip(own_offsets.iter()));
        let keys = keys.bytes.as_chunks::<{ BLOCK / 4 }>().0.iter().zip(keys.scales);
        for ((queries, (query_scales, offsets)), (keys, key_scales)) in queries.zip(keys) {
            let mut sums = simd.load_sums(offsets);
            for (query, key) in queries.iter().zip(keys) {
                sums = simd.dot_lanes(sums, simd.bytes(key), simd.bytes(query));
            }
            let scale = simd.mul(simd.load(key_scales), simd.load(query_scales));
            total = simd.fma(simd.floats(sums), scale, total);
        }
        simd.store(total, scores);
    }
}

/// Mixes the values of 16 blocks' own slots.
#[inline(always)]
fn own_mix<S: Simd>(simd: S, own: &Own, heads: Heads, place: Place, scratch: &mut Scratch) {
    const DIMS: usize = 8;
    let Place { head, group, groups, .. } = place;
    scratch.own_mixed.resize(heads.dim, [0.0; LANES]);
    for first in (0..heads.dim).step_by(DIMS) {
        let mut totals = [simd.splat(0.0); DIMS];
        for (step, weights) in scratch.own_scores.iter().enumerate() {
            let values = &own.values(heads, head, step * groups + group)[first..first + DIMS];
            let weights = simd.load(weights);
            for d in 0..DIMS {
                totals[d] = simd.fma(weights, simd.load_f16(&values[d]), totals[d]);
            }
        }
        for (total, mixed) in totals.into_iter().zip(&mut scratch.own_mixed[first..]) {
            simd.store(total, mixed);
        }
    }
}

impl Scratch {
    /// Rounds the scaled queries of the heads that share a key head.
    #[inline(always)]
    fn take_queries<S: Simd>(&mut self, simd: S, heads: Heads, head: usize, q: &[f32]) {
        let (dim, scale, group) = (heads.dim, simd.splat(heads.scale()), heads.group());
        let width = heads.query * dim;
        self.queries.resize(q.len() / width * group, dim);
        let of_head =
            q.chunks_exact(width).flat_map(|q| q[head * group * dim..][..group * dim].as_chunks().0);
        for (at, q) in of_head.enumerate() {
            let q = load(simd, q);
            round_block(simd, [simd.mul(q[0], scale), simd.mul(q[1], scale)], at, &mut self.queries);
        }
        self.sums.resize(self.queries.count, 1.0);
    }

    /// Puts the queries of one head of 16 blocks side by side.
    #[inline(always)]
    fn take_own_queries(&mut self, heads: Heads, query: usize) {
        let Self { queries, own_queries, own_scales, own_offsets, .. } = self;
        own_queries.clear();
        own_queries.resize(heads.dim / 4, [0; 4 * LANES]);
        own_scales.clear();
        own_scales.resize(queries.blocks, [0.0; LANES]);
        own_offsets.clear();
        own_offsets.resize(queries.blocks, [0; LANES]);
        for (lane, row) in (query..queries.count).step_by(heads.group()).enumerate() {
            for block in 0..queries.blocks {
                let at = row * queries.blocks + block;
                own_scales[block][lane] = queries.scales[at];
                own_offsets[block][lane] = queries.offsets[at];
                let bytes = &mut own_queries[block * BLOCK / 4..];
                for (bytes, values) in bytes.iter_mut().zip(queries.values[at].as_chunks::<4>().0) {
                    bytes[4 * lane..4 * lane + 4].copy_from_slice(&values.map(|value| value as u8));
                }
            }
        }
    }

    /// Softmax of the slots of one query head: over the lead and their own blocks.
    #[inline(always)]
    fn softmax_slots(&mut self, lead: usize, heads: Heads, query: usize) {
        let group = heads.group();
        let width = self.scores.len() / self.queries.count;
        let mut most = [f32::NEG_INFINITY; LANES];
        let rows_of = |block: usize| block * group + query;
        let blocks = self.queries.count / group;
        for (block, most) in most.iter_mut().enumerate().take(blocks) {
            *most = largest(&self.scores[rows_of(block) * width..][..lead]);
        }
        for scores in &self.own_scores {
            for lane in 0..LANES {
                most[lane] = most[lane].max(scores[lane]);
            }
        }
        let mut sums = [0.0; LANES];
        for block in 0..blocks {
            let scores = &mut self.scores[rows_of(block) * width..][..width];
            let (scores, unseen) = scores.split_at_mut(lead);
            sums[block] = numerators(scores, most[block]);
            unseen.fill(0.0);
        }
        for scores in &mut self.own_scores {
            for lane in 0..LANES {
                scores[lane] = exp((scores[lane] - most[lane]).min(0.0));
                sums[lane] += scores[lane];
            }
        }
        for (block, sum) in sums.into_iter().enumerate().take(blocks) {
            self.sums[rows_of(block)] = sum;
        }
    }

    /// Writes the mix of the own blocks' values.
    #[inline(always)]
    fn give_slots(&self, heads: Heads, place: Place, out: &mut [f32]) {
        let dim = heads.dim;
        for (block, out) in out.chunks_exact_mut(heads.query * dim).enumerate() {
            let out = &mut out[(place.head * heads.group() + place.query) * dim..][..dim];
            for (out, lanes) in out.iter_mut().zip(&self.own_mixed) {
                *out = lanes[block];
            }
        }
    }

    /// Adds the mix of the lead's values to what is written, and divides.
    #[inline(always)]
    fn add_lead(&self, heads: Heads, head: usize, out: &mut [f32]) {
        let dim = heads.dim;
        for (row, out) in out.chunks_exact_mut(heads.query * dim).enumerate() {
            let out = &mut out[head * heads.group() * dim..][..heads.group() * dim];
            for (query, out) in out.chunks_exact_mut(dim).enumerate() {
                let row = row * heads.group() + query;
                for (out, x) in out.iter_mut().zip(&self.mixed[row * dim..]) {
                    *out = (*out + x) / self.sums[row];
                }
            }
        }
    }
}

#[inline(always)]
fn largest(scores: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut most = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            most[lane] = larger(chunk[lane], most[lane]);
        }
    }
    most.into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, larger)
}

/// Replaces scores by `e^(score - largest)` and returns their sum.
#[inline(always)]
fn numerators(scores: &mut [f32], largest: f32) -> f32 {
    let mut total = [0.0; LANES];
    let (chunks, rest) = scores.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            chunk[lane] = exp(chunk[lane] - largest);
            total[lane] += chunk[lane];
        }
    }
    for (total, score) in total.iter_mut().zip(rest) {
        *score = exp(*score - largest);
        *total += *score;
    }
    sum_lanes(total)
}

#[cfg(test)]
mod tests;
