//! Attention.
//!
//! Over the lead, scores are products of int8 queries and keys, as any product here, and so is the mix of values: of int8
//! values with weights that are rounded once more, 32 rows at a time. All sums run in one order, which depends only on what
//! the row sees. What shares keys is computed together, so that they are read once: rows of a prompt, and the slots of a
//! step, which see the same prompt. The slots of 16 blocks lie in 16 lanes; what they see of their own is mixed in f32.

use std::ops::Range;

use super::Heads;
use super::exp::exp;
use super::kv::{LayerKv, Lead, Own, Values};
use super::product::{each_row, each_row_of};
use super::rows::{Rows, load, round_blocks};
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
    /// The largest of each row's scores in each lane, over the tiles that all rows see whole: `[rows * heads]`.
    most: Vec<[f32; LANES]>,
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
                    scores(simd, &kv.lead, heads, head, first + 1..seen, part.clone(), scratch);
                    softmax_lead(simd, &kv.lead, heads, head, first, part.clone(), scratch);
                    mix(simd, &kv.lead, heads, head, seen, part, scratch);
                }
            }
            Unit::Slots { step, group, groups } => {
                let all = 0..scratch.queries.count;
                let seen = kv.lead.rows..kv.lead.rows;
                scores(simd, &kv.lead, heads, head, seen, all.clone(), scratch);
                for query in 0..heads.group() {
                    let place = Place { head, query, step, group, groups };
                    own_scores(simd, &kv.own, heads, place, scratch);
                    softmax_slots(simd, &kv.lead, heads, place, scratch);
                    own_mix(simd, &kv.own, heads, place, scratch);
                    scratch.give_slots(heads, place, out);
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

/// Scores of these query rows over the rows of the lead before `seen.end`, of which all see those before `seen.start`.
#[inline(always)]
fn scores<S: Simd>(
    simd: S,
    lead: &Lead,
    heads: Heads,
    head: usize,
    seen: Range<usize>,
    of: Range<usize>,
    scratch: &mut Scratch,
) {
    let (tiles, width) = (seen.end.div_ceil(LANES), seen.end.div_ceil(BLOCK) * BLOCK);
    let whole = seen.start / LANES;
    let Scratch { queries, scores, most, weights, .. } = scratch;
    scores.resize(of.len() * width, 0.0);
    weights.resize(of.len(), width);
    most.clear();
    most.resize(of.len(), [f32::NEG_INFINITY; LANES]);
    let scores = scores.as_chunks_mut().0;
    for tile in 0..tiles {
        let keys = lead.keys(heads, head, tile);
        each_row_of(simd, keys, queries, of.clone(), |row, total| {
            let row = row - of.start;
            simd.store(total, &mut scores[row * width / LANES + tile]);
            if tile < whole {
                simd.store(simd.max(total, simd.load(&most[row])), &mut most[row]);
            }
        });
    }
}

/// Softmax of query rows of the lead, which see all rows up to their own.
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
    for (at, row) in of.enumerate() {
        let seen = first + row / heads.group() + 1;
        let most = scratch.most(at, first + 1, seen);
        scratch.sums[row] = scratch.weigh(simd, lead.values(head), at, seen, most);
    }
}

/// Softmax of the slots of one query head: over the lead and their own blocks.
#[inline(always)]
fn softmax_slots<S: Simd>(simd: S, lead: &Lead, heads: Heads, place: Place, scratch: &mut Scratch) {
    let rows = (place.query..scratch.queries.count).step_by(heads.group());
    let mut most = [f32::NEG_INFINITY; LANES];
    for (most, row) in most.iter_mut().zip(rows.clone()) {
        *most = scratch.most(row, lead.rows, lead.rows);
    }
    for scores in &scratch.own_scores {
        for lane in 0..LANES {
            most[lane] = larger(scores[lane], most[lane]);
        }
    }
    let mut sums = [0.0; LANES];
    for ((sum, most), row) in sums.iter_mut().zip(most).zip(rows.clone()) {
        *sum = scratch.weigh(simd, lead.values(place.head), row, lead.rows, most);
    }
    for scores in &mut scratch.own_scores {
        for lane in 0..LANES {
            scores[lane] = exp((scores[lane] - most[lane]).min(0.0));
            sums[lane] += scores[lane];
        }
    }
    for (sum, row) in sums.into_iter().zip(rows) {
        scratch.sums[row] = sum;
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
            simd.round_block([simd.mul(q[0], scale), simd.mul(q[1], scale)], &mut self.queries.rounded[at]);
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
                let rounded = &queries.rounded[row * queries.blocks + block];
                own_scales[block][lane] = rounded.scale;
                own_offsets[block][lane] = rounded.offset;
                let bytes = &mut own_queries[block * BLOCK / 4..];
                for (bytes, values) in bytes.iter_mut().zip(rounded.values.as_chunks::<4>().0) {
                    bytes[4 * lane..4 * lane + 4].copy_from_slice(&values.map(|value| value as u8));
                }
            }
        }
    }

    /// The largest of the first `seen` scores of row `at`, of which all rows see the first `all`.
    #[inline(always)]
    fn most(&self, at: usize, all: usize, seen: usize) -> f32 {
        let width = self.weights.blocks * BLOCK;
        let rest = &self.scores[at * width..][all / LANES * LANES..seen];
        self.most[at].iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger)
    }

    /// What the lead's values are mixed by, of the first `seen` scores of row `at`: `e^(score - most)`, the values'
    /// scales in it, rounded. Returns the sum of the exponentials.
    #[inline(always)]
    fn weigh<S: Simd>(&mut self, simd: S, values: &Values, at: usize, seen: usize, most: f32) -> f32 {
        let blocks = self.weights.blocks;
        let scores = &mut self.scores[at * blocks * BLOCK..][..blocks * BLOCK];
        let (chunks, rest) = scores[..seen].as_chunks_mut::<LANES>();
        let (scales, rest_scales) = values.scales.as_flattened()[..seen].as_chunks::<LANES>();
        let (one, mut sums) = (simd.splat(1.0), simd.splat(0.0));
        for (scores, scales) in chunks.iter_mut().zip(scales) {
            for score in &mut *scores {
                *score = exp(*score - most);
            }
            let weights = simd.load(scores);
            sums = simd.fma(weights, one, sums);
            simd.store(simd.mul(weights, simd.load(scales)), scores);
        }
        let mut total = [0.0; LANES];
        simd.store(sums, &mut total);
        for ((score, scale), total) in rest.iter_mut().zip(rest_scales).zip(&mut total) {
            let weight = exp(*score - most);
            *total += weight;
            *score = weight * scale;
        }
        scores[seen..].fill(0.0);
        round_blocks(simd, scores.as_chunks().0, at * blocks, &mut self.weights);
        sum_lanes(total)
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
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[cfg(test)]
mod tests;
