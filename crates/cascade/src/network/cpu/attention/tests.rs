//! Attention beside a plain one.

use super::super::kv::{append, write_slot};
use super::super::simd::Isa;
use super::*;
use crate::layout::Blocks;

const HEADS: Heads = Heads { query: 6, key: 2, dim: 64 };
const BLOCKS: Blocks = Blocks { prompt: 70, tokens: 50, block: 3 };

/// Rows of queries, keys and values.
struct Rows {
    q: Vec<Vec<f32>>,
    k: Vec<Vec<f32>>,
    v: Vec<Vec<f32>>,
}

fn rows(count: usize) -> Rows {
    let mut seed = 5u32;
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut of = |width: usize| -> Vec<Vec<f32>> {
        (0..count).map(|_| (0..width).map(|_| next()).collect()).collect()
    };
    let width = HEADS.key * HEADS.dim;
    Rows { q: of(HEADS.query * HEADS.dim), k: of(width), v: of(width) }
}

/// What a row mixes of the rows that it sees, in floats.
fn plain(rows: &Rows, row: usize, seen: &[usize]) -> Vec<f32> {
    let (dim, group) = (HEADS.dim, HEADS.group());
    let mut out = Vec::new();
    for head in 0..HEADS.query {
        let (q, at) = (&rows.q[row][head * dim..][..dim], head / group * dim);
        let score = |key: &usize| {
            let k = &rows.k[*key][at..][..dim];
            q.iter().zip(k).map(|(q, k)| q * k).sum::<f32>() * HEADS.scale()
        };
        let weights: Vec<f32> = seen.iter().map(|key| score(key).exp()).collect();
        let sum: f32 = weights.iter().sum();
        out.extend((at..at + dim).map(|d| {
            seen.iter().zip(&weights).map(|(key, weight)| rows.v[*key][d] * weight).sum::<f32>() / sum
        }));
    }
    out
}

/// Attention over a prompt of 70 rows and 17 blocks of up to 3 slots, unit by unit.
fn attended(isa: Isa, rows: &Rows, unit_rows: usize) -> Vec<Vec<f32>> {
    let (mut kv, mut scratch, mut out) = (LayerKv::default(), Scratch::default(), Vec::new());
    let width = HEADS.query * HEADS.dim;
    for row in 0..BLOCKS.prompt {
        append(isa, &mut kv.lead, HEADS, &rows.k[row], &rows.v[row]);
    }
    let mut run = |unit, kv: &LayerKv, rows: &[Vec<f32>]| {
        let mut mixed = vec![0.0; rows.len() * width];
        attend(isa, unit, kv, HEADS, &rows.concat(), &mut mixed, &mut scratch);
        out.extend(mixed.chunks(width).map(<[f32]>::to_vec));
    };
    for first in (0..BLOCKS.prompt).step_by(unit_rows) {
        let unit = first..BLOCKS.prompt.min(first + unit_rows);
        run(Unit::Lead { first }, &kv, &rows.q[unit]);
    }
    let groups = BLOCKS.count().div_ceil(LANES);
    for step in 0..BLOCKS.steps() {
        let live = BLOCKS.live(step);
        let slots = (0..live).map(|block| (block, BLOCKS.row(block, step)));
        for (block, row) in slots {
            write_slot(isa, &mut kv.own, HEADS, &BLOCKS, [block, step], &rows.k[row], &rows.v[row]);
        }
        for group in 0..groups {
            let blocks = group * LANES..live.min((group + 1) * LANES);
            let queries: Vec<_> = blocks.map(|block| rows.q[BLOCKS.row(block, step)].clone()).collect();
            if !queries.is_empty() {
                run(Unit::Slots { step, group, groups }, &kv, &queries);
            }
        }
    }
    out
}

#[test]
fn rows_mix_what_they_see_in_the_same_bits_everywhere() {
    let rows = rows(BLOCKS.prompt + BLOCKS.tokens);
    let all = Isa::all();
    let ours = attended(all[0].1, &rows, LEAD_ROWS);
    for (row, ours) in ours.iter().enumerate() {
        let seen: Vec<usize> = match row.checked_sub(BLOCKS.prompt) {
            None => (0..=row).collect(),
            Some(_) => {
                let (block, step) = BLOCKS.place(row);
                (0..BLOCKS.prompt).chain((0..=step).map(|step| BLOCKS.row(block, step))).collect()
            }
        };
        for (ours, plain) in ours.iter().zip(plain(&rows, row, &seen)) {
            assert!((ours - plain).abs() < 0.006, "row {row}: {ours} {plain}");
        }
    }
    for (name, isa) in all {
        for unit_rows in [1, 7, LEAD_ROWS] {
            assert!(attended(isa, &rows, unit_rows) == ours, "{name}, {unit_rows} rows a unit");
        }
    }
}
