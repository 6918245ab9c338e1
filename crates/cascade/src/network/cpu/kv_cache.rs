//! KV cache of one sequence, laid out for the attention kernels.
//!
//! Causal rows (the prompt, or a whole sequence without blocks) are packed like weights, because attention over them is
//! two GEMMs. Keys are stored in tiles of 16 rows, to compute scores; values in tiles of 16 dimensions, to compute the
//! output. Both are int8. Keys have a scale per 32 dimensions. Values have a scale per row and head: attention
//! multiplies the row's softmax weight by it.
//!
//! Block rows (the text slots of blocks) are ordered by step, and within a step in groups of 16 blocks. Each vector
//! lane then contains one block: keys in int8, values in half precision.

use half::f16;

use super::Heads;
use super::activations::{load, quantise_by_max};
use super::packed_weight::{PackedBlock, QUANT_BLOCK};
use super::simd::{LANES, Simd, kernel};
use crate::layout::Blocks;

/// Keys and values of one sequence in one layer.
#[derive(Clone, Default)]
pub(in crate::network) struct LayerKv {
    pub(super) causal: CausalKv,
    pub(super) blocks: BlockKv,
}

/// Keys and values of rows that attend to all rows before them.
#[derive(Clone, Default)]
pub(super) struct CausalKv {
    pub(super) rows: usize,
    /// `[tile][kv head][dim / 32]`
    keys: Vec<PackedBlock<8>>,
    /// `[kv head]`
    values: Vec<Values>,
}

/// Values of one key head over all causal rows.
#[derive(Clone, Default)]
pub(super) struct Values {
    /// `[dim / 16][rows / 32]`
    pub(super) tiles: Vec<Vec<ValueBlock>>,
    /// Scale of each row: `[rows / 32][32]`. Entries after the last row are 0.
    pub(super) scales: Vec<[f32; QUANT_BLOCK]>,
}

/// Keys and values of block rows, which attend to the causal rows and to their own block.
///
/// Every field begins with the dimensions `[step][group][kv head]`; its comment has the others. A group is 16 blocks.
#[derive(Clone, Default)]
pub(super) struct BlockKv {
    /// `[dim / 4][16 blocks][4]`, int8 values plus 128.
    keys: Vec<[u8; 4 * LANES]>,
    /// `[dim / 32][16 blocks]`
    scales: Vec<[f32; LANES]>,
    /// `[dim][16 blocks]`, f16 values as their bits.
    values: Vec<[u16; LANES]>,
}

/// Keys of one head and step in a group of 16 blocks.
pub(super) struct BlockKeys<'a> {
    pub(super) bytes: &'a [[u8; 4 * LANES]],
    pub(super) scales: &'a [[f32; LANES]],
}

/// Returns the bytes of a block row in one layer. Causal rows are smaller, so this is an upper bound for every row.
pub(super) fn row_bytes(heads: Heads) -> usize {
    let width = heads.key * heads.dim;
    width * (size_of::<u8>() + size_of::<u16>()) + width / QUANT_BLOCK * size_of::<f32>()
}

impl CausalKv {
    /// Reserves memory for `rows` more rows, without room for further growth.
    pub(super) fn reserve(&mut self, heads: Heads, rows: usize) {
        let rows = self.rows + rows;
        self.keys.reserve_exact(rows.div_ceil(LANES) * heads.key * heads.dim / QUANT_BLOCK - self.keys.len());
        self.values.resize_with(heads.key, Values::default);
        self.values.iter_mut().for_each(|values| values.reserve(heads, rows.div_ceil(QUANT_BLOCK)));
    }

    /// Returns the keys of a head in a tile of 16 rows, in the format of a weight tile.
    #[inline(always)]
    pub(super) fn keys(&self, heads: Heads, head: usize, tile: usize) -> &[PackedBlock<8>] {
        let blocks = heads.dim / QUANT_BLOCK;
        &self.keys[(tile * heads.key + head) * blocks..][..blocks]
    }

    #[inline(always)]
    pub(super) fn values(&self, head: usize) -> &Values {
        &self.values[head]
    }
}

impl Values {
    /// Reserves memory for `blocks` blocks of 32 rows in total.
    fn reserve(&mut self, heads: Heads, blocks: usize) {
        self.tiles.resize(heads.dim / LANES, Vec::new());
        for tile in &mut self.tiles {
            tile.reserve_exact(blocks - tile.len());
        }
        self.scales.reserve_exact(blocks - self.scales.len());
    }
}

/// Values of 32 rows in 16 dimensions, like a Q8_0 weight block without scales: dimensions are outputs.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(super) struct ValueBlock {
    pub(super) bytes: [[u8; 4 * LANES]; 8],
}

impl ValueBlock {
    const ZERO: Self = Self { bytes: PackedBlock::<8>::ZERO.bytes };
}

impl BlockKv {
    /// Reserves memory for all slots of `blocks`, without room for further growth.
    pub(super) fn reserve(&mut self, heads: Heads, blocks: &Blocks) {
        let width = heads.key * heads.dim;
        let entries = blocks.steps() * blocks.count().div_ceil(LANES);
        self.keys.reserve_exact(entries * width / 4 - self.keys.len());
        self.scales.reserve_exact(entries * width / QUANT_BLOCK - self.scales.len());
        self.values.reserve_exact(entries * width - self.values.len());
    }

    /// Returns the keys of a head at `entry`, which is `step * groups + group`.
    #[inline(always)]
    pub(super) fn keys(&self, heads: Heads, head: usize, entry: usize) -> BlockKeys<'_> {
        let (at, dim) = (entry * heads.key + head, heads.dim);
        BlockKeys {
            bytes: &self.keys[at * dim / 4..][..dim / 4],
            scales: &self.scales[at * dim / QUANT_BLOCK..][..dim / QUANT_BLOCK],
        }
    }

    /// Returns the values of a head at `entry`, `[dim]`. See [`Self::keys`].
    #[inline(always)]
    pub(super) fn values(&self, heads: Heads, head: usize, entry: usize) -> &[[u16; LANES]] {
        &self.values[(entry * heads.key + head) * heads.dim..][..heads.dim]
    }
}

kernel! {
    /// Appends a causal row. `k` and `v` are `[kv heads][dim]`.
    pub(super) fn append(kv: &mut CausalKv, heads: Heads, k: &[f32], v: &[f32]) = append_body;
}

#[inline(always)]
fn append_body<S: Simd>(simd: S, kv: &mut CausalKv, heads: Heads, k: &[f32], v: &[f32]) {
    let (row, lane) = (kv.rows, kv.rows % LANES);
    let blocks = heads.key * heads.dim / QUANT_BLOCK;
    if lane == 0 {
        kv.keys.resize(kv.keys.len() + blocks, PackedBlock::ZERO);
    }
    let tile = kv.keys.len() - blocks;
    for (block, k) in kv.keys[tile..].iter_mut().zip(k.as_chunks().0) {
        let (quantised, scale) = quantise_keys(simd, k);
        block.scales[lane] = f16::from_f32(scale).to_bits();
        scatter(&quantised, lane, &mut block.bytes);
    }
    kv.values.resize_with(heads.key, Values::default);
    for (values, v) in kv.values.iter_mut().zip(v.chunks_exact(heads.dim)) {
        append_values(simd, values, row, v);
    }
    kv.rows += 1;
}

/// Appends the values of causal row `row`, `[dim]`.
#[inline(always)]
fn append_values<S: Simd>(simd: S, values: &mut Values, row: usize, v: &[f32]) {
    let (block, column) = (row / QUANT_BLOCK, row % QUANT_BLOCK);
    values.tiles.resize(v.len() / LANES, Vec::new());
    if column == 0 {
        values.scales.push([0.0; QUANT_BLOCK]);
        values.tiles.iter_mut().for_each(|tile| tile.push(ValueBlock::ZERO));
    }
    let v = v.as_chunks::<QUANT_BLOCK>().0;
    let max_abs = v.iter().map(|v| simd.max_abs(load(simd, v))).fold(0.0, f32::max);
    values.scales[block][column] = max_abs / 127.0;
    for (tiles, v) in values.tiles.chunks_exact_mut(QUANT_BLOCK / LANES).zip(v) {
        let mut quantised = [0; QUANT_BLOCK];
        quantise_by_max(simd, load(simd, v), max_abs, &mut quantised);
        for (tile, quantised) in tiles.iter_mut().zip(quantised.as_chunks::<LANES>().0) {
            let bytes = tile[block].bytes[column / 4].as_chunks_mut::<4>().0;
            for (bytes, value) in bytes.iter_mut().zip(quantised) {
                bytes[column % 4] = *value as u8 ^ 128;
            }
        }
    }
}

kernel! {
    /// Writes a block row. `slot` is `[block, step]`; `k` and `v` are `[kv heads][dim]`.
    pub(super) fn write_slot(
        kv: &mut BlockKv,
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
    kv: &mut BlockKv,
    heads: Heads,
    blocks: &Blocks,
    [block, step]: [usize; 2],
    k: &[f32],
    v: &[f32],
) {
    let width = heads.key * heads.dim;
    let groups = blocks.count().div_ceil(LANES);
    let (entry, lane) = (step * groups + block / LANES, block % LANES);
    let entries = (step + 1) * groups;
    if kv.values.len() < entries * width {
        kv.keys.resize(entries * width / 4, [0; 4 * LANES]);
        kv.scales.resize(entries * width / QUANT_BLOCK, [0.0; LANES]);
        kv.values.resize(entries * width, [0; LANES]);
    }
    let keys = kv.keys[entry * width / 4..].as_chunks_mut::<{ QUANT_BLOCK / 4 }>().0.iter_mut();
    let keys = keys.zip(&mut kv.scales[entry * width / QUANT_BLOCK..]);
    for ((bytes, scales), k) in keys.zip(k.as_chunks().0) {
        let (quantised, scale) = quantise_keys(simd, k);
        scales[lane] = scale;
        scatter(&quantised, lane, bytes);
    }
    for (lanes, value) in kv.values[entry * width..].iter_mut().zip(v) {
        lanes[lane] = f16::from_f32(*value).to_bits();
    }
}

/// Quantises 32 key values to int8. Returns the quantised values and their scale.
#[inline(always)]
fn quantise_keys<S: Simd>(simd: S, x: &[f32; QUANT_BLOCK]) -> ([i8; QUANT_BLOCK], f32) {
    let (x, mut quantised) = (load(simd, x), [0; QUANT_BLOCK]);
    let max_abs = simd.max_abs(x);
    quantise_by_max(simd, x, max_abs, &mut quantised);
    (quantised, max_abs / 127.0)
}

/// Adds 128 to each of 32 values and writes them to one lane of `bytes`, `[8][16 lanes][4]`.
#[inline(always)]
fn scatter(quantised: &[i8; QUANT_BLOCK], lane: usize, bytes: &mut [[u8; 4 * LANES]; QUANT_BLOCK / 4]) {
    for (bytes, values) in bytes.iter_mut().zip(quantised.as_chunks::<4>().0) {
        bytes[4 * lane..4 * lane + 4].copy_from_slice(&values.map(|value| value as u8 ^ 128));
    }
}
