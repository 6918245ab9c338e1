//! Keys and values of a sequence, layer by layer, laid out for the attention kernels: keys in int8 with a scale per 32,
//! as weights and activations are, values in half precision.
//!
//! Rows of the lead, which later rows see in order, lie in tiles of 16 rows, packed as a weight is: scores are a product
//! with it. Slots of blocks lie in groups of 16 blocks, a step at a time, so that each lane of a vector is a block.

use half::f16;

use super::Heads;
use super::rows::round_values;
use super::simd::LANES;
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
    /// `[row][kv head][dim]`
    values: Vec<u16>,
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
        let width = heads.key * heads.dim;
        let tiles = (self.rows + rows).div_ceil(LANES);
        self.keys.reserve_exact(tiles * width / BLOCK - self.keys.len());
        self.values.reserve_exact(rows * width);
    }

    /// Appends a row.
    pub(super) fn push(&mut self, heads: Heads, k: &[f32], v: &[f32]) {
        let (blocks, lane) = (heads.key * heads.dim / BLOCK, self.rows % LANES);
        if lane == 0 {
            self.keys.resize(self.keys.len() + blocks, Block::ZERO);
        }
        let tile = self.keys.len() - blocks;
        for (block, k) in self.keys[tile..].iter_mut().zip(k.as_chunks::<BLOCK>().0) {
            let mut rounded = [0; BLOCK];
            let (scale, _) = round_values(k, &mut rounded);
            block.scales[lane] = f16::from_f32(scale).to_bits();
            for (bytes, values) in block.bytes.iter_mut().zip(rounded.as_chunks::<4>().0) {
                bytes[4 * lane..4 * lane + 4].copy_from_slice(&values.map(|value| value as u8 ^ 128));
            }
        }
        self.values.extend(v.iter().map(|value| f16::from_f32(*value).to_bits()));
        self.rows += 1;
    }

    /// Keys of a head in a tile of 16 rows, as a weight's tile.
    #[inline(always)]
    pub(super) fn keys(&self, heads: Heads, head: usize, tile: usize) -> &[Block<8>] {
        let blocks = heads.dim / BLOCK;
        &self.keys[(tile * heads.key + head) * blocks..][..blocks]
    }

    /// Values of a head, row after row: `[dim / 16][16]` each.
    #[inline(always)]
    pub(super) fn values(&self, heads: Heads, head: usize) -> impl Iterator<Item = &[[u16; LANES]]> {
        let rows = self.values.chunks_exact(heads.key * heads.dim);
        rows.map(move |row| row[head * heads.dim..(head + 1) * heads.dim].as_chunks().0)
    }
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

    /// Writes the slot at `step` of `block`.
    pub(super) fn set(
        &mut self,
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
        if self.values.len() < places * width {
            self.keys.resize(places * width / 4, [0; 4 * LANES]);
            self.scales.resize(places * width / BLOCK, [0.0; LANES]);
            self.values.resize(places * width, [0; LANES]);
        }
        let keys = self.keys[place * width / 4..].as_chunks_mut::<{ BLOCK / 4 }>().0.iter_mut();
        let keys = keys.zip(&mut self.scales[place * width / BLOCK..]);
        for ((bytes, scales), k) in keys.zip(k.as_chunks::<BLOCK>().0) {
            let mut rounded = [0; BLOCK];
            (scales[lane], _) = round_values(k, &mut rounded);
            for (bytes, values) in bytes.iter_mut().zip(rounded.as_chunks::<4>().0) {
                bytes[4 * lane..4 * lane + 4].copy_from_slice(&values.map(|value| value as u8 ^ 128));
            }
        }
        for (lanes, value) in self.values[place * width..].iter_mut().zip(v) {
            lanes[lane] = f16::from_f32(*value).to_bits();
        }
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
