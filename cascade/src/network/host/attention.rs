//! Attention.
//!
//! A row's scores, their softmax and the mix of values are summed in one order, which depends only on what the row sees:
//! dimension after dimension, row after row. What shares keys is computed together, so that they are read once: rows of
//! a prompt, and the slots of a step, which see the same prompt. The slots of 16 blocks lie in 16 lanes.

use super::Heads;
use super::exp::exp;
use super::kv::{LayerKv, Lead, Own};
use super::rowwise::sum_lanes;
use super::simd::{Isa, LANES, Simd, kernel};

/// Rows of a prompt that are computed together.
pub(super) const LEAD_ROWS: usize = 8;
/// Query rows whose scores are computed together.
const SCORE_ROWS: usize = 8;
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
    /// Scaled queries of the heads that share keys, 8 rows side by side: `[rows * heads / 8][dim][8]`.
    queries: Vec<[f32; SCORE_ROWS]>,
    /// Their scores over the lead: `[rows * heads][lead rows]`.
    scores: Vec<f32>,
    /// The mix of the lead's values: `[rows * heads][dim]`.
    mixed: Vec<f32>,
    /// What divides the mix: one a query row.
    sums: Vec<f32>,
    /// Queries of 16 blocks: `[dim][16]`.
    own_queries: Vec<[f32; LANES]>,
    /// Scores over the own blocks: `[step][16]`.
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
    for head in 0..heads.key {
        scratch.take_queries(heads, head, q);
        match unit {
            Unit::Lead { first } => {
                let rows = out.len() / (heads.query * heads.dim);
                scores(simd, &kv.lead, heads, head, first + rows, scratch);
                scratch.softmax_lead(first, heads);
                mix(simd, &kv.lead, heads, head, first + rows, scratch);
                scratch.give_lead(heads, head, out);
            }
            Unit::Slots { step, group, groups } => {
                scores(simd, &kv.lead, heads, head, kv.lead.rows, scratch);
                for query in 0..heads.group() {
                    let place = Place { head, query, step, group, groups };
                    own_scores(simd, &kv.own, heads, place, q, scratch);
                    scratch.softmax_slots(kv.lead.rows, heads, query);
                    own_mix(simd, &kv.own, heads, place, scratch);
                    scratch.give_slots(heads, place, out);
                }
                mix(simd, &kv.lead, heads, head, kv.lead.rows, scratch);
                scratch.add_lead(heads, head, out);
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

/// Scores over the first `seen` rows of the lead.
#[inline(always)]
fn scores<S: Simd>(simd: S, lead: &Lead, heads: Heads, head: usize, seen: usize, scratch: &mut Scratch) {
    let (dim, tiles) = (heads.dim, seen.div_ceil(LANES));
    let width = tiles * LANES;
    scratch.scores.resize(scratch.rows(heads) * width, 0.0);
    for (block, queries) in scratch.queries.chunks_exact(dim).enumerate() {
        let first = block * SCORE_ROWS;
        for tile in 0..tiles {
            let keys = lead.keys(heads, head, tile);
            let mut totals = [simd.splat(0.0); SCORE_ROWS];
            for (key, queries) in keys.iter().zip(queries) {
                let key = simd.load_f16(key);
                for (total, query) in totals.iter_mut().zip(queries) {
                    *total = simd.fma(simd.splat(*query), key, *total);
                }
            }
            for (m, total) in totals.into_iter().enumerate() {
                let at = (first + m) * width + tile * LANES;
                simd.store(total, &mut scratch.scores[at..].as_chunks_mut().0[0]);
            }
        }
    }
}

/// Mixes the values of the first `seen` rows of the lead by the weights in `scores`.
#[inline(always)]
fn mix<S: Simd>(simd: S, lead: &Lead, heads: Heads, head: usize, seen: usize, scratch: &mut Scratch) {
    const CHUNKS: usize = 4;
    let (dim, width) = (heads.dim, seen.div_ceil(LANES) * LANES);
    let rows = scratch.rows(heads);
    scratch.mixed.resize(rows * dim, 0.0);
    for first in (0..rows).step_by(MIX_ROWS) {
        let weights: [&[f32]; MIX_ROWS] =
            std::array::from_fn(|m| &scratch.scores[(first + m) * width..][..seen]);
        let mut chunk = 0;
        while chunk < dim / LANES {
            let count = if dim / LANES - chunk >= CHUNKS { CHUNKS } else { 1 };
            let mixed = &mut scratch.mixed[first * dim..(first + MIX_ROWS) * dim];
            if count == CHUNKS {
                mix_chunks::<S, CHUNKS>(simd, lead, heads, head, weights, chunk, mixed);
            } else {
                mix_chunks::<S, 1>(simd, lead, heads, head, weights, chunk, mixed);
            }
            chunk += count;
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn mix_chunks<S: Simd, const C: usize>(
    simd: S,
    lead: &Lead,
    heads: Heads,
    head: usize,
    weights: [&[f32]; MIX_ROWS],
    chunk: usize,
    mixed: &mut [f32],
) {
    let mut totals = [[simd.splat(0.0); C]; MIX_ROWS];
    let seen = weights[0].len();
    let weights = weights.map(|weights| &weights[..seen]);
    for (row, values) in (0..seen).zip(lead.values(heads, head)) {
        let values = &values[chunk..chunk + C];
        let values: [S::Floats; C] = std::array::from_fn(|c| simd.load_f16(&values[c]));
        for m in 0..MIX_ROWS {
            let weight = simd.splat(weights[m][row]);
            for c in 0..C {
                totals[m][c] = simd.fma(weight, values[c], totals[m][c]);
            }
        }
    }
    for (m, totals) in totals.into_iter().enumerate() {
        let mixed = &mut mixed[m * heads.dim..(m + 1) * heads.dim].as_chunks_mut().0[chunk..];
        for (mixed, total) in mixed.iter_mut().zip(totals) {
            simd.store(total, mixed);
        }
    }
}

/// Scores of 16 blocks over their own slots up to their own.
#[inline(always)]
fn own_scores<S: Simd>(simd: S, own: &Own, heads: Heads, place: Place, q: &[f32], scratch: &mut Scratch) {
    const STEPS: usize = 4;
    let Place { head, query, step, group, groups } = place;
    let (dim, width) = (heads.dim, heads.query * heads.dim);
    let scale = heads.scale();
    scratch.own_queries.clear();
    scratch.own_queries.resize(dim, [0.0; LANES]);
    for (block, q) in q.chunks_exact(width).enumerate() {
        let q = &q[(head * heads.group() + query) * dim..][..dim];
        for (lanes, x) in scratch.own_queries.iter_mut().zip(q) {
            lanes[block] = x * scale;
        }
    }
    // Past the step there are no keys: its own are read again, and what comes of it is not used.
    let seen = step + 1;
    scratch.own_scores.resize(seen.div_ceil(STEPS) * STEPS, [0.0; LANES]);
    for first in (0..seen).step_by(STEPS) {
        let keys: [&[[u16; LANES]]; STEPS] =
            std::array::from_fn(|i| own.keys(heads, head, (first + i).min(step) * groups + group));
        let mut totals = [simd.splat(0.0); STEPS];
        for (d, query) in scratch.own_queries.iter().enumerate() {
            let query = simd.load(query);
            for i in 0..STEPS {
                totals[i] = simd.fma(query, simd.load_f16(&keys[i][d]), totals[i]);
            }
        }
        for (total, scores) in totals.into_iter().zip(&mut scratch.own_scores[first..]) {
            simd.store(total, scores);
        }
    }
    scratch.own_scores.truncate(seen);
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
    /// Query rows, filled up to a multiple of what is computed together.
    #[inline(always)]
    fn rows(&self, heads: Heads) -> usize {
        self.queries.len() / heads.dim * SCORE_ROWS
    }

    /// Copies and scales the queries of the heads that share a key head.
    #[inline(always)]
    fn take_queries(&mut self, heads: Heads, head: usize, q: &[f32]) {
        let (dim, scale) = (heads.dim, heads.scale());
        let width = heads.query * dim;
        let rows = q.len() / width * heads.group();
        self.queries.resize(rows.div_ceil(SCORE_ROWS) * dim, [0.0; SCORE_ROWS]);
        let of_head = q
            .chunks_exact(width)
            .flat_map(|q| q[head * heads.group() * dim..][..heads.group() * dim].chunks_exact(dim));
        for (row, q) in of_head.enumerate() {
            for (to, x) in self.queries[row / SCORE_ROWS * dim..].iter_mut().zip(q) {
                to[row % SCORE_ROWS] = x * scale;
            }
        }
        self.sums.resize(self.rows(heads), 1.0);
    }

    /// Softmax of rows of the lead, which see all rows up to their own.
    #[inline(always)]
    fn softmax_lead(&mut self, first: usize, heads: Heads) {
        let rows = self.rows(heads);
        let width = self.scores.len() / rows;
        for (row, scores) in self.scores.chunks_exact_mut(width).enumerate() {
            let seen = (first + row / heads.group() + 1).min(width);
            let (scores, unseen) = scores.split_at_mut(seen);
            let largest = largest(scores);
            self.sums[row] = numerators(scores, largest);
            unseen.fill(0.0);
        }
    }

    /// Softmax of the slots of one query head: over the lead and their own blocks.
    #[inline(always)]
    fn softmax_slots(&mut self, lead: usize, heads: Heads, query: usize) {
        let group = heads.group();
        let rows = self.rows(heads);
        let width = self.scores.len() / rows;
        let mut most = [f32::NEG_INFINITY; LANES];
        let rows_of = |block: usize| block * group + query;
        let blocks = LANES.min((rows - query).div_ceil(group));
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

    /// Writes the mix of the lead's values.
    #[inline(always)]
    fn give_lead(&self, heads: Heads, head: usize, out: &mut [f32]) {
        let dim = heads.dim;
        for (row, out) in out.chunks_exact_mut(heads.query * dim).enumerate() {
            let out = &mut out[head * heads.group() * dim..][..heads.group() * dim];
            for (query, out) in out.chunks_exact_mut(dim).enumerate() {
                let row = row * heads.group() + query;
                for (out, x) in out.iter_mut().zip(&self.mixed[row * dim..]) {
                    *out = x / self.sums[row];
                }
            }
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

    /// Adds the mix of the lead's values to that of the own blocks', and divides.
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
    let mut largest = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            largest[lane] = largest[lane].max(chunk[lane]);
        }
    }
    largest.into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, f32::max)
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
