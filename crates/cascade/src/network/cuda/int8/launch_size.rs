//! Grids and shared memory of the kernels in `cuda/int8_*.cu`, and the tiles that they read.

use super::LARGE_ROWS;
use crate::network::cuda::Card;
use crate::network::cuda::weight::{Int8Weight, QUANT_BLOCK, TILE};

/// Returns the grid for `items` warps in blocks of `per_block` warps.
pub(super) fn warps(items: usize, per_block: usize) -> (u32, u32, u32) {
    (items.div_ceil(per_block) as u32, 1, 1)
}

/// Returns the thread blocks of a GEMM whose tiles have `tile` rows: one per tile, at most as many as can run at once.
pub(super) fn gemm_grid(card: &Card, weight: &Int8Weight, rows: usize, tile: usize) -> (u32, u32, u32) {
    let tiles = weight.outputs / TILE * rows.div_ceil(tile);
    let at_once = if tile == LARGE_ROWS { 2 } else { 6 };
    (tiles.min(at_once * card.multiprocessors()) as u32, 1, 1)
}

/// Returns the bytes of the tiles of `rows` rows of `width` columns: `RowTile` in `cuda/int8.cuh`.
pub(super) fn tile_bytes(rows: usize, width: usize) -> usize {
    let tile = LARGE_ROWS * TILE + 2 * LARGE_ROWS * size_of::<f32>();
    rows.div_ceil(LARGE_ROWS) * width / TILE * tile
}

/// Returns the shared memory of a GEMM with tiles of `rows` rows: four of `Stage` in `cuda/int8_gemm.cu`, and room to
/// align them.
pub(super) fn shared_bytes(rows: usize) -> usize {
    let row_part = rows * TILE + 2 * rows * 4;
    let weights = TILE * TILE + 2 * 4 * (TILE / 4 + 4) * 4;
    4 * (row_part.next_multiple_of(512) + weights.next_multiple_of(512)) + 512
}

/// Returns the shared memory that a warp of attention needs for `rows` causal rows: `causal_floats` in
/// `cuda/int8_attention.cu`.
pub(super) fn causal_bytes(rows: usize) -> usize {
    4 * (rows + rows / 4 + (rows / QUANT_BLOCK).next_multiple_of(4))
}
