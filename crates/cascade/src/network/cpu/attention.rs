//! Grouped-query attention.
//!
//! Over causal rows, attention is two int8 GEMMs: queries times keys are the scores, softmax weights times values
//! are the output. The softmax weights are quantised to int8 in blocks of 32 rows. Over block rows, each of 16 vector
//! lanes computes one block: scores are int8 dot products, weighted sums of values are f32. The order of every sum
//! depends only on the rows that are visible to the query.
//!
//! Queries that attend to the same keys are computed together, so that each key is read once for all of them. Such
//! queries are consecutive rows of a prompt, or the slots of one step.

use std::ops::Range;

use super::Heads;
use super::activations::{Activations, load, quantise_blocks};
use super::exp::exp;
use super::gemm::{for_each_row, for_rows};
use super::kv_cache::{BlockKv, CausalKv, LayerKv, Values};
use super::packed_weight::QUANT_BLOCK;
use super::row_ops::sum_lanes;
use super::simd::{LANES, Simd, kernel};

/// Maximum causal rows per tile.
pub(super) const CAUSAL_TILE_ROWS: usize = 16;
/// Maximum scores per pass, so that scores, keys and values stay in a core's L2 cache.
const SCORES_MAX: usize = 1 << 15;
/// Minimum query rows per pass: the maximum rows that the GEMM micro-kernel computes at once.
const QUERIES_MIN: usize = 8;

/// Query rows that are computed together.
#[derive(Clone, Copy)]
pub(super) enum QueryTile {
    /// Consecutive causal rows, starting at row `first` of the sequence.
    Causal { first: usize },
    /// Slots at `step` of up to 16 blocks: group `group` out of `groups`.
    Blocks { step: usize, group: usize, groups: usize },
}

/// Reusable buffers of one thread.
#[derive(Default)]
pub(super) struct Scratch {
    /// Scaled queries of the heads that share a key head: `[rows * heads][dim]`.
    queries: Activations,
    /// Scores of one pass over causal rows: `[rows * heads][causal rows]`, padded to whole blocks of 32.
    scores: Vec<f32>,
    /// Lane-wise maximum of each row's scores over the key tiles that all rows attend to entirely: `[rows * heads]`.
    lane_max: Vec<[f32; LANES]>,
    /// Softmax numerators times the scales of the values, quantised. Same shape as `scores`.
    weights: Activations,
    /// Weighted sums of causal values: `[rows * heads][dim]`.
    mixed: Vec<f32>,
    /// Softmax denominators: `[rows * heads]`.
    sums: Vec<f32>,
    /// Queries of 16 blocks: `[dim / 4][16][4]`. The two fields below are their scales and offsets: `[dim / 32][16]`.
    lane_queries: Vec<[u8; 4 * LANES]>,
    lane_scales: Vec<[f32; LANES]>,
    lane_offsets: Vec<[i32; LANES]>,
    /// Scores of 16 blocks over their own slots: `[step][16]`.
    lane_scores: Vec<[f32; LANES]>,
    /// Weighted sums of block values: `[dim][16]`.
    lane_mixed: Vec<[f32; LANES]>,
}

kernel! {
    /// Computes attention for the rows of a tile. `q` and `out` are `[rows][query heads * dim]`.
    pub(super) fn attend(
        tile: QueryTile,
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
    tile: QueryTile,
    kv: &LayerKv,
    heads: Heads,
    q: &[f32],
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    out.fill(0.0);
    for head in 0..heads.key {
        scratch.quantise_queries(simd, heads, head, q);
        match tile {
            QueryTile::Causal { first } => {
                let visible = first + out.len() / (heads.query * heads.dim);
                let count = scratch.queries.count;
                let pass = (SCORES_MAX / visible).max(QUERIES_MIN) / QUERIES_MIN * QUERIES_MIN;
                for start in (0..count).step_by(pass) {
                    let rows = start..(start + pass).min(count);
                    causal_scores(simd, &kv.causal, heads, head, first + 1..visible, rows.clone(), scratch);
                    softmax_causal(simd, &kv.causal, heads, head, first, rows.clone(), scratch);
                    mix_causal_values(simd, &kv.causal, heads, head, visible, rows, scratch);
                }
            }
            QueryTile::Blocks { step, group, groups } => {
                let all = 0..scratch.queries.count;
                let visible = kv.causal.rows..kv.causal.rows;
                causal_scores(simd, &kv.causal, heads, head, visible, all.clone(), scratch);
                for query in 0..heads.group() {
                    let at = BlockHead { head, query, step, group, groups };
                    block_scores(simd, &kv.blocks, heads, at, scratch);
                    softmax_blocks(simd, &kv.causal, heads, at, scratch);
                    mix_block_values(simd, &kv.blocks, heads, at, scratch);
                    scratch.write_lanes(heads, at, out);
                }
                mix_causal_values(simd, &kv.causal, heads, head, kv.causal.rows, all, scratch);
            }
        }
        scratch.add_causal(heads, head, out);
    }
}

/// One query head over the blocks of a group.
#[derive(Clone, Copy)]
struct BlockHead {
    /// Key head.
    head: usize,
    /// Index among the query heads that share the key head.
    query: usize,
    step: usize,
    group: usize,
    groups: usize,
}

/// Computes the scores of query rows `rows` over the causal rows before `visible.end`. All query rows must attend to
/// the causal rows before `visible.start`: their whole tiles are also reduced to `lane_max`.
#[inline(always)]
fn causal_scores<S: Simd>(
    simd: S,
    kv: &CausalKv,
    heads: Heads,
    head: usize,
    visible: Range<usize>,
    rows: Range<usize>,
    scratch: &mut Scratch,
) {
    let (tiles, width) = (visible.end.div_ceil(LANES), visible.end.div_ceil(QUANT_BLOCK) * QUANT_BLOCK);
    let whole = visible.start / LANES;
    let Scratch { queries, scores, lane_max, weights, .. } = scratch;
    scores.resize(rows.len() * width, 0.0);
    weights.resize(rows.len(), width);
    lane_max.clear();
    lane_max.resize(rows.len(), [f32::NEG_INFINITY; LANES]);
    let scores = scores.as_chunks_mut().0;
    for tile in 0..tiles {
        let keys = kv.keys(heads, head, tile);
        for_rows(simd, keys, queries, rows.clone(), |row, total| {
            let row = row - rows.start;
            simd.store(total, &mut scores[row * width / LANES + tile]);
            if tile < whole {
                simd.store(simd.max(total, simd.load(&lane_max[row])), &mut lane_max[row]);
            }
        });
    }
}

/// Computes softmax weights of causal query rows. Each row attends to all earlier rows and to itself.
#[inline(always)]
fn softmax_causal<S: Simd>(
    simd: S,
    kv: &CausalKv,
    heads: Heads,
    head: usize,
    first: usize,
    rows: Range<usize>,
    scratch: &mut Scratch,
) {
    for (at, row) in rows.enumerate() {
        let visible = first + row / heads.group() + 1;
        let max_score = scratch.max_score(at, first + 1, visible);
        scratch.sums[row] = scratch.softmax_weights(simd, kv.values(head), at, visible, max_score);
    }
}

/// Computes softmax weights of one query head's slots. Each slot attends to the causal rows and to its own block.
#[inline(always)]
fn softmax_blocks<S: Simd>(simd: S, kv: &CausalKv, heads: Heads, at: BlockHead, scratch: &mut Scratch) {
    let rows = (at.query..scratch.queries.count).step_by(heads.group());
    let mut max_score = [f32::NEG_INFINITY; LANES];
    for (max_score, row) in max_score.iter_mut().zip(rows.clone()) {
        *max_score = scratch.max_score(row, kv.rows, kv.rows);
    }
    for scores in &scratch.lane_scores {
        for lane in 0..LANES {
            max_score[lane] = max(scores[lane], max_score[lane]);
        }
    }
    let mut sums = [0.0; LANES];
    for ((sum, max_score), row) in sums.iter_mut().zip(max_score).zip(rows.clone()) {
        *sum = scratch.softmax_weights(simd, kv.values(at.head), row, kv.rows, max_score);
    }
    for scores in &mut scratch.lane_scores {
        for lane in 0..LANES {
            scores[lane] = exp((scores[lane] - max_score[lane]).min(0.0));
            sums[lane] += scores[lane];
        }
    }
    for (sum, row) in sums.into_iter().zip(rows) {
        scratch.sums[row] = sum;
    }
}

/// Computes the weighted sums of the first `visible` causal values for query rows `rows`.
#[inline(always)]
fn mix_causal_values<S: Simd>(
    simd: S,
    kv: &CausalKv,
    heads: Heads,
    head: usize,
    visible: usize,
    rows: Range<usize>,
    scratch: &mut Scratch,
) {
    let (chunks, blocks) = (heads.dim / LANES, visible.div_ceil(QUANT_BLOCK));
    let Scratch { queries, weights, mixed, .. } = scratch;
    mixed.resize(queries.count * heads.dim, 0.0);
    let mixed = mixed.as_chunks_mut().0;
    for (chunk, tile) in kv.values(head).tiles.iter().enumerate() {
        for_each_row(simd, &tile[..blocks], weights, |row, total| {
            simd.store(total, &mut mixed[(rows.start + row) * chunks + chunk]);
        });
    }
}

/// Computes the scores of the current step's slots in 16 blocks, each over its own block's slots up to this step.
#[inline(always)]
fn block_scores<S: Simd>(simd: S, kv: &BlockKv, heads: Heads, at: BlockHead, scratch: &mut Scratch) {
    let BlockHead { head, query, step, group, groups } = at;
    scratch.interleave_queries(heads, query);
    let Scratch { lane_queries, lane_scales, lane_offsets, lane_scores, .. } = scratch;
    lane_scores.resize(step + 1, [0.0; LANES]);
    for (step, scores) in lane_scores.iter_mut().enumerate() {
        let keys = kv.keys(heads, head, step * groups + group);
        let mut total = simd.splat(0.0);
        let queries =
            lane_queries.as_chunks::<{ QUANT_BLOCK / 4 }>().0.iter().zip(lane_scales.iter().zip(lane_offsets.iter()));
        let keys = keys.bytes.as_chunks::<{ QUANT_BLOCK / 4 }>().0.iter().zip(keys.scales);
        for ((queries, (query_scales, offsets)), (keys, key_scales)) in queries.zip(keys) {
            let mut sums = simd.load_i32(offsets);
            for (query, key) in queries.iter().zip(keys) {
                sums = simd.dot_lanes(sums, simd.load_bytes(key), simd.load_bytes(query));
            }
            let scale = simd.mul(simd.load(key_scales), simd.load(query_scales));
            total = simd.fma(simd.to_f32(sums), scale, total);
        }
        simd.store(total, scores);
    }
}

/// Computes, for each of 16 blocks, the weighted sum of the values of its own slots.
#[inline(always)]
fn mix_block_values<S: Simd>(simd: S, kv: &BlockKv, heads: Heads, at: BlockHead, scratch: &mut Scratch) {
    const DIMS: usize = 8;
    let BlockHead { head, group, groups, .. } = at;
    scratch.lane_mixed.resize(heads.dim, [0.0; LANES]);
    for first in (0..heads.dim).step_by(DIMS) {
        let mut totals = [simd.splat(0.0); DIMS];
        for (step, weights) in scratch.lane_scores.iter().enumerate() {
            let values = &kv.values(heads, head, step * groups + group)[first..first + DIMS];
            let weights = simd.load(weights);
            for d in 0..DIMS {
                totals[d] = simd.fma(weights, simd.load_f16(&values[d]), totals[d]);
            }
        }
        for (total, mixed) in totals.into_iter().zip(&mut scratch.lane_mixed[first..]) {
            simd.store(total, mixed);
        }
    }
}

impl Scratch {
    /// Scales and quantises the queries of the heads that share key head `head`.
    #[inline(always)]
    fn quantise_queries<S: Simd>(&mut self, simd: S, heads: Heads, head: usize, q: &[f32]) {
        let (dim, scale, group) = (heads.dim, simd.splat(heads.scale()), heads.group());
        let width = heads.query * dim;
        self.queries.resize(q.len() / width * group, dim);
        let head_queries = q.chunks_exact(width).flat_map(|q| q[head * group * dim..][..group * dim].as_chunks().0);
        for (at, q) in head_queries.enumerate() {
            let q = load(simd, q);
            simd.quantise_block([simd.mul(q[0], scale), simd.mul(q[1], scale)], &mut self.queries.blocks[at]);
        }
        self.sums.resize(self.queries.count, 1.0);
    }

    /// Transposes the queries of one head, so that each lane contains the query of one block.
    #[inline(always)]
    fn interleave_queries(&mut self, heads: Heads, query: usize) {
        let Self { queries, lane_queries, lane_scales, lane_offsets, .. } = self;
        lane_queries.clear();
        lane_queries.resize(heads.dim / 4, [0; 4 * LANES]);
        lane_scales.clear();
        lane_scales.resize(queries.row_blocks, [0.0; LANES]);
        lane_offsets.clear();
        lane_offsets.resize(queries.row_blocks, [0; LANES]);
        for (lane, row) in (query..queries.count).step_by(heads.group()).enumerate() {
            for block in 0..queries.row_blocks {
                let quantised = &queries.blocks[row * queries.row_blocks + block];
                lane_scales[block][lane] = quantised.scale;
                lane_offsets[block][lane] = quantised.offset;
                let bytes = &mut lane_queries[block * QUANT_BLOCK / 4..];
                for (bytes, values) in bytes.iter_mut().zip(quantised.values.as_chunks::<4>().0) {
                    bytes[4 * lane..4 * lane + 4].copy_from_slice(&values.map(|value| value as u8));
                }
            }
        }
    }

    /// Returns the maximum of the first `visible` scores of row `at`. All rows attend to the first `all` causal rows,
    /// whose whole tiles [`causal_scores`] has reduced to `lane_max`.
    #[inline(always)]
    fn max_score(&self, at: usize, all: usize, visible: usize) -> f32 {
        let width = self.weights.row_blocks * QUANT_BLOCK;
        let rest = &self.scores[at * width..][all / LANES * LANES..visible];
        self.lane_max[at].iter().chain(rest).copied().fold(f32::NEG_INFINITY, max)
    }

    /// Computes the quantised weights of row `at` from its first `visible` scores: `e^(score - max_score)` times the
    /// scale of the value. Returns the sum of the exponentials, without these scales.
    #[inline(always)]
    fn softmax_weights<S: Simd>(&mut self, simd: S, values: &Values, at: usize, visible: usize, max_score: f32) -> f32 {
        let blocks = self.weights.row_blocks;
        let scores = &mut self.scores[at * blocks * QUANT_BLOCK..][..blocks * QUANT_BLOCK];
        let (chunks, rest) = scores[..visible].as_chunks_mut::<LANES>();
        let (scales, rest_scales) = values.scales.as_flattened()[..visible].as_chunks::<LANES>();
        let (one, mut sums) = (simd.splat(1.0), simd.splat(0.0));
        for (scores, scales) in chunks.iter_mut().zip(scales) {
            for score in &mut *scores {
                *score = exp(*score - max_score);
            }
            let weights = simd.load(scores);
            sums = simd.fma(weights, one, sums);
            simd.store(simd.mul(weights, simd.load(scales)), scores);
        }
        let mut total = [0.0; LANES];
        simd.store(sums, &mut total);
        for ((score, scale), total) in rest.iter_mut().zip(rest_scales).zip(&mut total) {
            let weight = exp(*score - max_score);
            *total += weight;
            *score = weight * scale;
        }
        scores[visible..].fill(0.0);
        quantise_blocks(simd, scores.as_chunks().0, at * blocks, &mut self.weights);
        sum_lanes(total)
    }

    /// Writes the weighted sums of the block values of one query head to `out`.
    #[inline(always)]
    fn write_lanes(&self, heads: Heads, at: BlockHead, out: &mut [f32]) {
        let dim = heads.dim;
        for (block, out) in out.chunks_exact_mut(heads.query * dim).enumerate() {
            let out = &mut out[(at.head * heads.group() + at.query) * dim..][..dim];
            for (out, lanes) in out.iter_mut().zip(&self.lane_mixed) {
                *out = lanes[block];
            }
        }
    }

    /// Adds the weighted sums of the causal values to `out`, then divides `out` by the softmax denominators.
    #[inline(always)]
    fn add_causal(&self, heads: Heads, head: usize, out: &mut [f32]) {
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
fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[cfg(test)]
mod tests;
