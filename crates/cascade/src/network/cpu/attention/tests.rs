//! Compares attention with a plain f32 implementation, and its results across instruction sets and tile sizes.

use super::super::kv_cache::{append, write_slot};
use super::super::simd::Isa;
use super::*;
use crate::layout::Blocks;

const HEADS: Heads = Heads { query: 6, key: 2, dim: 64 };
const BLOCKS: Blocks = Blocks { prompt: 70, tokens: 50, block: 3 };

/// Queries, keys and values, one vector per row.
struct Qkv {
    q: Vec<Vec<f32>>,
    k: Vec<Vec<f32>>,
    v: Vec<Vec<f32>>,
}

fn random_rows(count: usize) -> Qkv {
    let mut seed = 5u32;
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut of = |width: usize| -> Vec<Vec<f32>> { (0..count).map(|_| (0..width).map(|_| next()).collect()).collect() };
    let width = HEADS.key * HEADS.dim;
    Qkv { q: of(HEADS.query * HEADS.dim), k: of(width), v: of(width) }
}

/// Returns the attention output of row `row`, which attends to the rows `seen`, computed in f32.
fn plain(rows: &Qkv, row: usize, seen: &[usize]) -> Vec<f32> {
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
        out.extend(
            (at..at + dim)
                .map(|d| seen.iter().zip(&weights).map(|(key, weight)| rows.v[*key][d] * weight).sum::<f32>() / sum),
        );
    }
    out
}

/// Returns the attention output of all rows: a prompt of 70 rows, then 17 blocks of up to 3 slots.
fn attended(isa: Isa, rows: &Qkv, tile_rows: usize) -> Vec<Vec<f32>> {
    let (mut kv, mut scratch, mut out) = (LayerKv::default(), Scratch::default(), Vec::new());
    let width = HEADS.query * HEADS.dim;
    for row in 0..BLOCKS.prompt {
        append(isa, &mut kv.causal, HEADS, &rows.k[row], &rows.v[row]);
    }
    let mut run = |tile, kv: &LayerKv, rows: &[Vec<f32>]| {
        let mut mixed = vec![0.0; rows.len() * width];
        attend(isa, tile, kv, HEADS, &rows.concat(), &mut mixed, &mut scratch);
        out.extend(mixed.chunks(width).map(<[f32]>::to_vec));
    };
    for first in (0..BLOCKS.prompt).step_by(tile_rows) {
        let tile = first..BLOCKS.prompt.min(first + tile_rows);
        run(QueryTile::Causal { first }, &kv, &rows.q[tile]);
    }
    let groups = BLOCKS.count().div_ceil(LANES);
    for step in 0..BLOCKS.steps() {
        let active = BLOCKS.active(step);
        let slots = (0..active).map(|block| (block, BLOCKS.row(block, step)));
        for (block, row) in slots {
            write_slot(isa, &mut kv.blocks, HEADS, &BLOCKS, [block, step], &rows.k[row], &rows.v[row]);
        }
        for group in 0..groups {
            let blocks = group * LANES..active.min((group + 1) * LANES);
            let queries: Vec<_> = blocks.map(|block| rows.q[BLOCKS.row(block, step)].clone()).collect();
            if !queries.is_empty() {
                run(QueryTile::Blocks { step, group, groups }, &kv, &queries);
            }
        }
    }
    out
}

#[test]
fn attention_is_near_f32_and_bit_identical_for_all_cpus_and_tile_sizes() {
    let rows = random_rows(BLOCKS.prompt + BLOCKS.tokens);
    let all = Isa::supported();
    let ours = attended(all[0].1, &rows, CAUSAL_TILE_ROWS);
    for (row, ours) in ours.iter().enumerate() {
        let seen: Vec<usize> = match row.checked_sub(BLOCKS.prompt) {
            None => (0..=row).collect(),
            Some(_) => {
                let (block, step) = BLOCKS.locate(row);
                (0..BLOCKS.prompt).chain((0..=step).map(|step| BLOCKS.row(block, step))).collect()
            }
        };
        for (ours, plain) in ours.iter().zip(plain(&rows, row, &seen)) {
            assert!((ours - plain).abs() < 0.006, "row {row}: {ours} {plain}");
        }
    }
    for (name, isa) in all {
        for tile_rows in [1, 7, CAUSAL_TILE_ROWS] {
            assert!(attended(isa, &rows, tile_rows) == ours, "{name}, {tile_rows} rows per tile");
        }
    }
}
