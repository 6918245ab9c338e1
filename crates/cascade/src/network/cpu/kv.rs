//! Keys and values of a sequence, layer by layer, laid out for the attention kernels.
//!
//! Rows of the lead, which later rows see in order, are packed as weights are: keys in tiles of 16 rows, so that scores
//! are a product with them, and values in tiles of 16 dims, so that their mix is one too. Both are int8, keys with a scale
//! per 32 dims, values with one per head: a row's scale then goes into its weight, and the row needs no other.
//!
//! Slots of blocks lie in groups of 16 blocks, a step at a time, so that each lane of a vector is a block: keys in int8,
//! values in half precision.

use half::f16;

use super::Heads;
use super::rows::{load, round};
use super::simd::{LANES, Simd, kernel};
use super::weight::{BLOCK, Block};
use crate::layout::Blocks;

/// Keys and values of the rows of one sequence in one layer.
#[derive(Clone, Default)]
pub(in crate::network) struct LayerKv {
    pub(super) lead: Lead,
    pub(super) own: Own,
}

/// The rows that see all rows before them.
#[derive(Clone, Default)]
pub(super) struct Lead {
    pub(super) rows: usize,
    /// `[tile][kv head][dim / 32]`
    keys: Vec<Block<8>>,
    /// `[kv head]`
    values: Vec<Values>,
}

/// Values of a key head over the rows of the lead.
#[derive(Clone, Default)]
pub(super) struct Values {
    /// `[dim / 16][rows / 32]`
    pub(super) tiles: Vec<Vec<ValueBlock>>,
    /// What each row is scaled by: `[rows / 32][32]`, 0 where there is no row.
    pub(super) scales: Vec<[f32; BLOCK]>,
}

/// The slots of blocks, which see the lead and their own block. Everything is `[step][group][kv head]…[16 blocks]`.
#[derive(Clone, Default)]
pub(super) struct Own {
    /// `[dim / 4][16 blocks][4]`, from 0 to 255 for -128 to 127.
    keys: Vec<[u8; 4 * LANES]>,
    /// `[dim / 32][16 blocks]`
    scales: Vec<[f32; LANES]>,
    /// `[dim][16 blocks]`
    values: Vec<[u16; LANES]>,
}

/// The keys of 16 blocks at a step.
pub(super) struct OwnKeys<'a> {
    pub(super) bytes: &'a [[u8; 4 * LANES]],
    pub(super) scales: &'a [[f32; LANES]],
}

/// Bytes that a row takes in one layer.
pub(super) fn row_bytes(heads: Heads) -> usize {
    let width = heads.key * heads.dim;
    width * (size_of::<u8>() + size_of::<u16>()) + width / BLOCK * size_of::<f32>()
}

impl Lead {
    /// Takes memory for `rows` more rows, and no more than that.
    pub(super) fn reserve(&mut self, heads: Heads, rows: usize) {
        let rows = self.rows + rows;
        self.keys.reserve_exact(rows.div_ceil(LANES) * heads.key * heads.dim / BLOCK - self.keys.len());
        self.values.resize_with(heads.key, Values::default);
        self.values.iter_mut().for_each(|values| values.reserve(heads, rows.div_ceil(BLOCK)));
    }

    /// Keys of a head in a tile of 16 rows, as a weight's tile.
    #[inline(always)]
    pub(super) fn keys(&self, heads: Heads, head: usize, tile: usize) -> &[Block<8>] {
        let blocks = heads.dim / BLOCK;
        &self.keys[(tile * heads.key + head) * blocks..][..blocks]
    }

    /// Values of a head.
    #[inline(always)]
    pub(super) fn values(&self, head: usize) -> &Values {
        &self.values[head]
    }
}

impl Values {
    /// Takes memory for so many blocks of 32 rows.
    fn reserve(&mut self, heads: Heads, blocks: usize) {
        self.tiles.resize(heads.dim / LANES, Vec::new());
        for tile in &mut self.tiles {
            tile.reserve_exact(blocks - tile.len());
        }
        self.scales.reserve_exact(blocks - self.scales.len());
    }
}

/// 16 dims of 32 rows: a weight's block of which a row is a column, without scales.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(super) struct ValueBlock {
    pub(super) bytes: [[u8; 4 * LANES]; 8],
}

impl ValueBlock {
    /// Of no row yet.
    const ZERO: Self = Self { bytes: Block::<8>::ZERO.bytes };
}

impl Own {
    /// Takes memory for all slots of `blocks`, which is used as they come.
    pub(super) fn reserve(&mut self, heads: Heads, blocks: &Blocks) {
        let width = heads.key * heads.dim;
        let places = blocks.steps() * blocks.count().div_ceil(LANES);
        self.keys.reserve_exact(places * width / 4 - self.keys.len());
        self.scales.reserve_exact(places * width / BLOCK - self.scales.len());
        self.values.reserve_exact(places * width - self.values.len());
    }

    /// Keys of a head at a step of a group of 16 blocks, `place` being `step * groups + group`.
    #[inline(always)]
    pub(super) fn keys(&self, heads: Heads, head: usize, place: usize) -> OwnKeys<'_> {
        let (at, dim) = (place * heads.key + head, heads.dim);
        OwnKeys {
            bytes: &self.keys[at * dim / 4..][..dim / 4],
            scales: &self.scales[at * dim / BLOCK..][..dim / BLOCK],
        }
    }

    /// Values, as [`Self::keys`].
    #[inline(always)]
    pub(super) fn values(&self, heads: Heads, head: usize, place: usize) -> &[[u16; LANES]] {
        &self.values[(place * heads.key + head) * heads.dim..][..heads.dim]
    }
}

kernel! {
    /// Appends a row to the lead.
    pub(super) fn append(lead: &mut Lead, heads: Heads, k: &[f32], v: &[f32]) = append_body;
}

#[inline(always)]
fn append_body<S: Simd>(simd: S, lead: &mut Lead, heads: Heads, k: &[f32], v: &[f32]) {
    let (row, lane) = (lead.rows, lead.rows % LANES);
    let blocks = heads.key * heads.dim / BLOCK;
    if lane == 0 {
        lead.keys.resize(lead.keys.len() + blocks, Block::ZERO);
    }
    let tile = lead.keys.len() - blocks;
    for (block, k) in lead.keys[tile..].iter_mut().zip(k.as_chunks().0) {
        let (rounded, scale) = rounded(simd, k);
        block.scales[lane] = f16::from_f32(scale).to_bits();
        scatter(&rounded, lane, &mut block.bytes);
    }
    lead.values.resize_with(heads.key, Values::default);
    for (values, v) in lead.values.iter_mut().zip(v.chunks_exact(heads.dim)) {
        append_values(simd, values, row, v);
    }
    lead.rows += 1;
}

/// Writes the values of a row after those that are there.
#[inline(always)]
fn append_values<S: Simd>(simd: S, values: &mut Values, row: usize, v: &[f32]) {
    let (block, column) = (row / BLOCK, row % BLOCK);
    values.tiles.resize(v.len() / LANES, Vec::new());
    if column == 0 {
        values.scales.push([0.0; BLOCK]);
        values.tiles.iter_mut().for_each(|tile| tile.push(ValueBlock::ZERO));
    }
    let v = v.as_chunks::<BLOCK>().0;
    let most = v.iter().map(|v| simd.largest(load(simd, v))).fold(0.0, f32::max);
    values.scales[block][column] = most / 127.0;
    for (tiles, v) in values.tiles.chunks_exact_mut(BLOCK / LANES).zip(v) {
        let mut rounded = [0; BLOCK];
        round(simd, load(simd, v), most, &mut rounded);
        for (tile, rounded) in tiles.iter_mut().zip(rounded.as_chunks::<LANES>().0) {
            let bytes = tile[block].bytes[column / 4].as_chunks_mut::<4>().0;
            for (bytes, value) in bytes.iter_mut().zip(rounded) {
                bytes[column % 4] = *value as u8 ^ 128;
            }
        }
    }
}

kernel! {
    /// Writes a slot: its block and its step.
    pub(super) fn write_slot(
        own: &mut Own,
        heads: Heads,
        blocks: &Blocks,
        slot: [usize; 2],
        k: &[f32],
        v: &[f32],
    ) = write_slot_body;
}

#[inline(always)]
fn write_slot_body<S: Simd>(
    simd: S,
    own: &mut Own,
    heads: Heads,
    blocks: &Blocks,
    [block, step]: [usize; 2],
    k: &[f32],
    v: &[f32],
) {
    let width = heads.key * heads.dim;
    let groups = blocks.count().div_ceil(LANES);
    let (place, lane) = (step * groups + block / LANES, block % LANES);
    let places = (step + 1) * groups;
    if own.values.len() < places * width {
        own.keys.resize(places * width / 4, [0; 4 * LANES]);
        own.scales.resize(places * width / BLOCK, [0.0; LANES]);
        own.values.resize(places * width, [0; LANES]);
    }
    let keys = own.keys[place * width / 4..].as_chunks_mut::<{ BLOCK / 4 }>().0.iter_mut();
    let keys = keys.zip(&mut own.scales[place * width / BLOCK..]);
    for ((bytes, scales), k) in keys.zip(k.as_chunks().0) {
        let (rounded, scale) = rounded(simd, k);
        scales[lane] = scale;
        scatter(&rounded, lane, bytes);
    }
    for (lanes, value) in own.values[place * width..].iter_mut().zip(v) {
        lanes[lane] = f16::from_f32(*value).to_bits();
    }
}

/// 32 values in int8, and their scale.
#[inline(always)]
fn rounded<S: Simd>(simd: S, x: &[f32; BLOCK]) -> ([i8; BLOCK], f32) {
    let (x, mut rounded) = (load(simd, x), [0; BLOCK]);
    let most = simd.largest(x);
    round(simd, x, most, &mut rounded);
    (rounded, most / 127.0)
}

/// Puts 32 values into a lane of `[8][16 lanes][4]`, from 0 to 255 for -128 to 127.
#[inline(always)]
fn scatter(rounded: &[i8; BLOCK], lane: usize, bytes: &mut [[u8; 4 * LANES]; BLOCK / 4]) {
    for (bytes, values) in bytes.iter_mut().zip(rounded.as_chunks::<4>().0) {
        bytes[4 * lane..4 * lane + 4].copy_from_slice(&values.map(|value| value as u8 ^ 128));
    }
}
