//! Attention.
//!
//! Scores are products of int8 queries and keys, as any product here. Softmax and the mix of values are summed in one
//! order, which depends only on what the row sees: row after row. What shares keys is computed together, so that they are read once: rows of
//! a prompt, and the slots of a step, which see the same prompt. The slots of 16 blocks lie in 16 lanes.

use super::Heads;
use super::exp::exp;
use super::kv::{LayerKv, Lead, Own};
use super::product::each_row;
use super::rows::{Rows, round_block};
use super::rowwise::sum_lanes;
use super::simd::{Isa, LANES, Simd, kernel};
use super::weight::BLOCK;

/// Rows of a prompt that are computed together.
pub(super) const LEAD_ROWS: usize = 16;
/// Query rows whose values are mixed together.
const MIX_ROWS: usize = 4;

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
    /// Lead rows that each query row sees.
    seen: Vec<usize>,
    /// Scores over the lead, a tile of 16 of its rows after the other: `[tile][rows * heads][16]`.
    scores: Vec<[f32; LANES]>,
    /// The largest of them, lane by lane: `[rows * heads][16]`.
    largest: Vec<[f32; LANES]>,
    /// The largest score of a query row, over all that it sees.
    most: Vec<f32>,
    /// Sums of weights over the lead, lane by lane: `[rows * heads][16]`.
    totals: Vec<[f32; LANES]>,
    /// Values of a tile: `[16 rows][dim / 16][16]`.
    values: Vec<[f32; LANES]>,
    /// The mix of the lead's values: `[rows * heads][dim / 16][16]`.
    mixed: Vec<[f32; LANES]>,
    /// Queries of 16 blocks: `[dim / 4][16][4]`, their scales and offsets, `[dim / 32][16]` each.
    own_queries: Vec<[u8; 4 * LANES]>,
    own_scales: Vec<[f32; LANES]>,
    own_offsets: Vec<[i32; LANES]>,
    /// Scores over the own blocks: `[head][step][16]`.
    own_scores: Vec<[f32; LANES]>,
    /// The mix of the own blocks' values: `[dim][16]`.
    own_mixed: Vec<[f32; LANES]>,
}

/// Mixes the values that a unit's rows see. `q` and `out` are rows of `heads.query * heads.dim`.
pub(super) fn attend(
    isa: Isa,
    unit: Unit,
    kv: &LayerKv,
    heads: Heads,
    q: &[f32],
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    attend_unit(isa, unit, kv, heads, q, out, scratch);
}

kernel! {
    fn attend_unit(unit: Unit, kv: &LayerKv, heads: Heads, q: &[f32], out: &mut [f32], scratch: &mut Scratch)
        = attend_body;
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
    let rows = out.len() / (heads.query * heads.dim);
    scratch.seen.clear();
    scratch.seen.extend((0..rows * heads.group()).map(|row| match unit {
        Unit::Lead { first } => first + row / heads.group() + 1,
        Unit::Slots { .. } => kv.lead.rows,
    }));
    for head in 0..heads.key {
        scratch.take_queries(heads, head, q);
        scores(simd, &kv.lead, heads, head, scratch);
        match unit {
            Unit::Lead { .. } => {
                mix(simd, &kv.lead, heads, head, scratch);
                scratch.give_lead(heads, head, out);
            }
            Unit::Slots { step, group, groups } => {
                let place = |query| Place { head, query, step, group, groups };
                scratch.own_scores.resize(heads.group() * (step + 1), [0.0; LANES]);
                for query in 0..heads.group() {
                    own_scores(simd, &kv.own, heads, place(query), scratch);
                }
                mix(simd, &kv.lead, heads, head, scratch);
                for query in 0..heads.group() {
                    own_mix(simd, &kv.own, heads, place(query), scratch);
                    scratch.give_slots(heads, place(query), out);
                }
            }
        }
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

/// Scores over the lead, and the largest of each query row. What a row does not see is minus infinity.
#[inline(always)]
fn scores<S: Simd>(simd: S, lead: &Lead, heads: Heads, head: usize, scratch: &mut Scratch) {
    let Scratch { queries, seen, scores, largest, most, .. } = scratch;
    let (rows, last) = (queries.count, seen[seen.len() - 1]);
    let tiles = last.div_ceil(LANES);
    scores.resize(tiles * rows, [0.0; LANES]);
    largest.clear();
    largest.resize(rows, [f32::NEG_INFINITY; LANES]);
    for (tile, scores) in scores.chunks_exact_mut(rows).enumerate() {
        let keys = lead.keys(heads, head, tile);
        each_row(simd, keys, queries, |row, total| simd.store(total, &mut scores[row]));
        if (tile + 1) * LANES > seen[0] {
            for (scores, seen) in scores.iter_mut().zip(seen.iter()) {
                let seen = seen.saturating_sub(tile * LANES).min(LANES);
                scores[seen..].fill(f32::NEG_INFINITY);
            }
        }
        for (largest, scores) in largest.iter_mut().zip(scores) {
            for lane in 0..LANES {
                largest[lane] = largest[lane].max(scores[lane]);
            }
        }
    }
    most.clear();
    most.extend(largest.iter().map(|lanes| lanes.iter().copied().fold(f32::NEG_INFINITY, f32::max)));
}

/// Turns scores over the lead into weights and mixes its values by them, a tile of 16 rows after the other.
#[inline(always)]
fn mix<S: Simd>(simd: S, lead: &Lead, heads: Heads, head: usize, scratch: &mut Scratch) {
    let chunks = heads.dim / LANES;
    let Scratch { queries, scores, most, totals, values, mixed, .. } = scratch;
    let rows = queries.count;
    totals.clear();
    totals.resize(rows, [0.0; LANES]);
    mixed.clear();
    mixed.resize(rows * chunks, [0.0; LANES]);
    values.resize(LANES * chunks, [0.0; LANES]);
    let mut stored = lead.values(heads, head);
    for weights in scores.chunks_exact_mut(rows) {
        for ((weights, most), total) in weights.iter_mut().zip(most.iter()).zip(totals.iter_mut()) {
            for lane in 0..LANES {
                let score = weights[lane];
                let weight = if score == f32::NEG_INFINITY { 0.0 } else { exp(score - most) };
                weights[lane] = weight;
                total[lane] += weight;
            }
        }
        let mut count = 0;
        for (values, stored) in values.chunks_exact_mut(chunks).zip(stored.by_ref()) {
            for (values, stored) in values.iter_mut().zip(stored) {
                simd.store(simd.load_f16(stored), values);
            }
            count += 1;
        }
        let values = &values[..count * chunks];
        let (whole, rest) = weights.as_chunks::<MIX_ROWS>();
        let (mixed, of_rest) = mixed.split_at_mut(whole.len() * MIX_ROWS * chunks);
        for (weights, mixed) in whole.iter().zip(mixed.chunks_exact_mut(MIX_ROWS * chunks)) {
            mix_rows::<S, MIX_ROWS>(simd, values, chunks, weights, mixed);
        }
        for (weights, mixed) in rest.iter().zip(of_rest.chunks_exact_mut(chunks)) {
            mix_rows::<S, 1>(simd, values, chunks, std::array::from_ref(weights), mixed);
        }
    }
}

/// Adds the values of a tile by their weights to what `M` rows have mixed.
#[inline(always)]
fn mix_rows<S: Simd, const M: usize>(
    simd: S,
    values: &[[f32; LANES]],
    chunks: usize,
    weights: &[[f32; LANES]; M],
    mixed: &mut [[f32; LANES]],
) {
    let mut chunk = 0;
    while chunk + 4 <= chunks {
        mix_chunks::<S, M, 4>(simd, values, chunks, weights, mixed, chunk);
        chunk += 4;
    }
    while chunk < chunks {
        mix_chunks::<S, M, 1>(simd, values, chunks, weights, mixed, chunk);
        chunk += 1;
    }
}

#[inline(always)]
fn mix_chunks<S: Simd, const M: usize, const C: usize>(
    simd: S,
    values: &[[f32; LANES]],
    chunks: usize,
    weights: &[[f32; LANES]; M],
    mixed: &mut [[f32; LANES]],
    chunk: usize,
) {
    let mut totals: [[S::Floats; C]; M] =
        std::array::from_fn(|m| std::array::from_fn(|c| simd.load(&mixed[m * chunks + chunk + c])));
    for (row, values) in (0..LANES).zip(values.chunks_exact(chunks)) {
        let values: [S::Floats; C] = std::array::from_fn(|c| simd.load(&values[chunk + c]));
        for m in 0..M {
            let weight = simd.splat(weights[m][row]);
            for c in 0..C {
                totals[m][c] = simd.fma(weight, values[c], totals[m][c]);
            }
        }
    }
    for (m, totals) in totals.into_iter().enumerate() {
        for (c, total) in totals.into_iter().enumerate() {
            simd.store(total, &mut mixed[m * chunks + chunk + c]);
        }
    }
}

/// Scores of 16 blocks over their own slots up to their own.
#[inline(always)]
fn own_scores<S: Simd>(simd: S, own: &Own, heads: Heads, place: Place, scratch: &mut Scratch) {
    let Place { head, query, step, group, groups } = place;
    scratch.take_own_queries(heads, query);
    let Scratch { own_queries, own_scales, own_offsets, own_scores, most, .. } = scratch;
    let mut largest = [f32::NEG_INFINITY; LANES];
    for (step, scores) in own_scores[query * (step + 1)..][..=step].iter_mut().enumerate() {
        let keys = own.keys(heads, head, step * groups + group);
        let mut total = simd.splat(0.0);
        let queries = own_queries.as_chunks::<{ BLOCK / 4 }>().0.iter();
        let queries = queries.zip(own_scales.iter().zip(own_offsets.iter()));
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
        for lane in 0..LANES {
            largest[lane] = largest[lane].max(scores[lane]);
        }
    }
    for (most, largest) in most[query..].iter_mut().step_by(heads.group()).zip(largest) {
        *most = most.max(largest);
    }
}

/// Turns scores of 16 blocks over their own slots into weights and mixes their values.
#[inline(always)]
fn own_mix<S: Simd>(simd: S, own: &Own, heads: Heads, place: Place, scratch: &mut Scratch) {
    const DIMS: usize = 8;
    let Place { head, query, step, group, groups } = place;
    let Scratch { own_scores, own_mixed, most, totals, .. } = scratch;
    let weights = &mut own_scores[query * (step + 1)..][..=step];
    // Lanes without a block weigh something too; nobody reads them.
    let (mut of_lanes, mut sums) = ([0.0; LANES], [0.0; LANES]);
    let rows = || (query..most.len()).step_by(heads.group());
    for ((of_lane, sum), row) in of_lanes.iter_mut().zip(&mut sums).zip(rows()) {
        (*of_lane, *sum) = (most[row], sum_lanes(totals[row]));
    }
    for weights in weights.iter_mut() {
        for lane in 0..LANES {
            weights[lane] = exp((weights[lane] - of_lanes[lane]).min(0.0));
            sums[lane] += weights[lane];
        }
    }
    for (sum, row) in sums.into_iter().zip(rows()) {
        totals[row] = [0.0; LANES];
        totals[row][0] = sum;
    }
    own_mixed.resize(heads.dim, [0.0; LANES]);
    for first in (0..heads.dim).step_by(DIMS) {
        let mut totals = [simd.splat(0.0); DIMS];
        for (step, weights) in weights.iter().enumerate() {
            let values = &own.values(heads, head, step * groups + group)[first..first + DIMS];
            let weights = simd.load(weights);
            for d in 0..DIMS {
                totals[d] = simd.fma(weights, simd.load_f16(&values[d]), totals[d]);
            }
        }
        for (total, mixed) in totals.into_iter().zip(&mut own_mixed[first..]) {
            simd.store(total, mixed);
        }
    }
}

impl Scratch {
    /// Rounds the scaled queries of the heads that share a key head.
    #[inline(always)]
    fn take_queries(&mut self, heads: Heads, head: usize, q: &[f32]) {
        let (dim, scale, group) = (heads.dim, heads.scale(), heads.group());
        let width = heads.query * dim;
        self.queries.resize(q.len() / width * group, dim);
        let of_head =
            q.chunks_exact(width).flat_map(|q| q[head * group * dim..][..group * dim].as_chunks().0);
        for (at, q) in of_head.enumerate() {
            round_block(&q.map(|x| x * scale), at, &mut self.queries);
        }
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
                own_offsets[block][lane] = -128 * queries.sums[at];
                let bytes = &mut own_queries[block * BLOCK / 4..];
                for (bytes, values) in bytes.iter_mut().zip(queries.values[at].as_chunks::<4>().0) {
                    bytes[4 * lane..4 * lane + 4].copy_from_slice(&values.map(|value| value as u8));
                }
            }
        }
    }

    /// Writes the mix of the lead's values.
    #[inline(always)]
    fn give_lead(&self, heads: Heads, head: usize, out: &mut [f32]) {
        let (dim, group) = (heads.dim, heads.group());
        for (row, out) in out.chunks_exact_mut(heads.query * dim).enumerate() {
            let out = &mut out[head * group * dim..][..group * dim];
            for (query, out) in out.chunks_exact_mut(dim).enumerate() {
                let row = row * group + query;
                let (sum, mixed) =
                    (sum_lanes(self.totals[row]), self.mixed[row * dim / LANES..].as_flattened());
                for (out, x) in out.iter_mut().zip(mixed) {
                    *out = x / sum;
                }
            }
        }
    }

    /// Writes the mix of the lead's values and that of the own blocks'.
    #[inline(always)]
    fn give_slots(&self, heads: Heads, place: Place, out: &mut [f32]) {
        let (dim, group) = (heads.dim, heads.group());
        for (block, out) in out.chunks_exact_mut(heads.query * dim).enumerate() {
            let row = block * group + place.query;
            let out = &mut out[(place.head * group + place.query) * dim..][..dim];
            let (sum, mixed) = (self.totals[row][0], self.mixed[row * dim / LANES..].as_flattened());
            for ((out, x), own) in out.iter_mut().zip(mixed).zip(&self.own_mixed) {
                *out = (own[block] + x) / sum;
            }
        }
    }
}
