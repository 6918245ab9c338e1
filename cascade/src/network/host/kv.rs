//! Keys and values of a sequence, layer by layer, in half precision, laid out for the attention kernels.
//!
//! Rows of the lead, which later rows see in order, lie in tiles of 16 rows; slots of blocks lie in groups of 16 blocks,
//! a step at a time. Either way a vector holds one dimension of 16 rows, and nothing is kept twice.

use half::f16;

use super::Heads;
use super::simd::LANES;
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
    /// `[tile][kv head][dim][16 rows]`
    keys: Vec<u16>,
    /// `[row][kv head][dim]`
    values: Vec<u16>,
}

/// The slots of blocks, which see the lead and their own block.
#[derive(Clone, Default)]
pub(super) struct Own {
    /// `[step][group][kv head][dim][16 blocks]`
    keys: Vec<u16>,
    values: Vec<u16>,
}

impl Lead {
    /// Takes memory for `rows` more rows, and no more than that.
    pub(super) fn reserve(&mut self, heads: Heads, rows: usize) {
        let width = heads.key * heads.dim;
        self.keys.reserve_exact((self.rows + rows).div_ceil(LANES) * LANES * width - self.keys.len());
        self.values.reserve_exact(rows * width);
    }

    /// Appends a row.
    pub(super) fn push(&mut self, heads: Heads, k: &[f32], v: &[f32]) {
        let (width, lane) = (heads.key * heads.dim, self.rows % LANES);
        if lane == 0 {
            self.keys.resize(self.keys.len() + width * LANES, 0);
        }
        let tile = self.rows / LANES * width * LANES;
        for (place, key) in self.keys[tile + lane..].iter_mut().step_by(LANES).zip(k) {
            *place = f16::from_f32(*key).to_bits();
        }
        self.values.extend(v.iter().map(|value| f16::from_f32(*value).to_bits()));
        self.rows += 1;
    }

    /// Keys of a head in a tile of 16 rows: `[dim][16 rows]`.
    #[inline(always)]
    pub(super) fn keys(&self, heads: Heads, head: usize, tile: usize) -> &[[u16; LANES]] {
        let size = heads.dim * LANES;
        self.keys[(tile * heads.key + head) * size..][..size].as_chunks().0
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
        let whole = blocks.steps() * blocks.count().div_ceil(LANES) * heads.key * heads.dim * LANES;
        self.keys.reserve_exact(whole - self.keys.len());
        self.values.reserve_exact(whole - self.values.len());
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
        let size = heads.key * heads.dim * LANES;
        let groups = blocks.count().div_ceil(LANES);
        let whole = (step + 1) * groups * size;
        if self.keys.len() < whole {
            self.keys.resize(whole, 0);
            self.values.resize(whole, 0);
        }
        let at = (step * groups + block / LANES) * size + block % LANES;
        for (place, key) in self.keys[at..].iter_mut().step_by(LANES).zip(k) {
            *place = f16::from_f32(*key).to_bits();
        }
        for (place, value) in self.values[at..].iter_mut().step_by(LANES).zip(v) {
            *place = f16::from_f32(*value).to_bits();
        }
    }

    /// Keys of a head at a step of a group of 16 blocks, `place` being `step * groups + group`: `[dim][16 blocks]`.
    #[inline(always)]
    pub(super) fn keys(&self, heads: Heads, head: usize, place: usize) -> &[[u16; LANES]] {
        let size = heads.dim * LANES;
        self.keys[(place * heads.key + head) * size..][..size].as_chunks().0
    }

    /// Values, as [`Self::keys`].
    #[inline(always)]
    pub(super) fn values(&self, heads: Heads, head: usize, place: usize) -> &[[u16; LANES]] {
        let size = heads.dim * LANES;
        self.values[(place * heads.key + head) * size..][..size].as_chunks().0
    }
}
