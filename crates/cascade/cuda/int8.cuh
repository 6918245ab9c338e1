// Shared by the kernels of the arithmetic c3-int8-2, as the CPU kernels define it (src/network/cpu): the same bits for
// every row.
//
// Compiled without contraction of multiplications and additions (-fmad=false): every fused multiply-add is written out.
// Integer dot products of 32 columns are exact, so the tensor cores may compute them in any order. Their f32 sums are
// added in the order of the columns, by the one thread that owns the output.
#pragma once

#include "common.cuh"

namespace {

constexpr int QUANT_BLOCK = 32;
constexpr int DIM = 64;
constexpr int DIM_BLOCKS = DIM / QUANT_BLOCK;
// 1.5 * 2^23: adding it to a float rounds to an integer, ties to even, and leaves the integer in the low bits.
constexpr float ROUND = 12582912.0f;
constexpr int ROUND_BITS = 0x4b400000;

// e^x for x <= 0, as `exp` in src/network/cpu/exp.rs.
__device__ __forceinline__ float exp_negative(float x) {
    x = fmaxf(x, -87.0f);
    float shifted = __fmaf_rn(x, 1.44269504088896340736f, ROUND);
    float n = __fadd_rn(shifted, -ROUND);
    float r = __fmaf_rn(n, 2.1219444e-4f, __fmaf_rn(n, -355.0f / 512.0f, x));
    float p = 1.9875692e-4f;
    p = __fmaf_rn(p, r, 1.3981999e-3f);
    p = __fmaf_rn(p, r, 8.333452e-3f);
    p = __fmaf_rn(p, r, 4.1665796e-2f);
    p = __fmaf_rn(p, r, 1.6666665e-1f);
    p = __fmaf_rn(p, r, 0.5f);
    p = __fmaf_rn(p, __fmul_rn(r, r), __fadd_rn(r, 1.0f));
    return __fmul_rn(__uint_as_float((__float_as_uint(shifted) << 23) + (127u << 23)), p);
}

// a / b, rounded once, for b from 2^-100 to 2^100 and |a| of 2^-100 or more: smaller |a| may be off by one unit in the
// last place. These are the steps of the compiler's own division, without its branch for all other operands.
__device__ __forceinline__ float divide(float a, float b) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(b));
    y = __fmaf_rn(__fmaf_rn(-b, y, 1.0f), y, y);
    float q = __fmul_rn(a, y);
    q = __fmaf_rn(__fmaf_rn(-b, q, a), y, q);
    return __fmaf_rn(__fmaf_rn(-b, q, a), y, q);
}

// Steps per unit that map `max_abs` to 127. Scales by powers of two keep the division in range.
__device__ __forceinline__ float quant_steps(float max_abs) {
    float power = max_abs < 0x1p-100f ? 0x1p64f : (max_abs > 0x1p100f ? 0x1p-64f : 1.0f);
    float steps = __fmul_rn(divide(127.0f, __fmul_rn(max_abs, power)), power);
    return max_abs > 0.0f ? steps : 0.0f;
}

// Scale of the values that `quant_steps` quantises: max_abs / 127. The reciprocal of 127 is rounded correctly, so one
// correction rounds the quotient correctly (Markstein).
__device__ __forceinline__ float quant_scale(float max_abs) {
    constexpr float RECIPROCAL = 1.0f / 127.0f;
    float q = __fmul_rn(max_abs, RECIPROCAL);
    return __fmaf_rn(__fmaf_rn(-127.0f, q, max_abs), RECIPROCAL, q);
}

__device__ __forceinline__ int8_t quantise(float x, float steps) {
    return static_cast<int8_t>(__float_as_uint(__fadd_rn(__fmul_rn(x, steps), ROUND)));
}

// Sum over 16 lanes as a balanced tree. The result is in lane 0 of each half-warp.
__device__ __forceinline__ float sum_16_lanes(float x) {
    for (int half = 8; half > 0; half /= 2)
        x = __fadd_rn(x, __shfl_down_sync(ALL_LANES, x, half, 16));
    return x;
}

// Quantises 64 values: `a` is value `lane`, `b` value `32 + lane`.
__device__ __forceinline__ void write_quantised(float a, float b, int8_t *to_a, int8_t *to_b, float *scale_a,
                                                float *scale_b) {
    float max_a = warp_max_positive(fabsf(a)), max_b = warp_max_positive(fabsf(b));
    *to_a = quantise(a, quant_steps(max_a));
    *to_b = quantise(b, quant_steps(max_b));
    if (threadIdx.x % WARP == 0) {
        *scale_a = quant_scale(max_a);
        *scale_b = quant_scale(max_b);
    }
}

// The operands of a GEMM are stored as the tiles that its stages copy to shared memory: each tile is contiguous. A step
// is 64 columns. Within a tile, a row's four chunks of 16 bytes are permuted, so that eight rows lie in different
// banks: the 64-byte swizzle of Hopper's matrix instructions.
constexpr int GEMM_COLUMNS = 64;
constexpr int GEMM_TILES = GEMM_COLUMNS / 8;
constexpr int GEMM_DEPTH = 64;
constexpr int GEMM_STAGES = 4;
constexpr int TILE_ROWS = 128;

// Values and scales of one step of 128 rows.
struct RowTile {
    int8_t values[TILE_ROWS][GEMM_DEPTH];
    float scales[2][TILE_ROWS];
};

// Values and scales of one step of 64 outputs. The scales are ordered by the lane that uses them: output `8 * n + 2 * t
// + i` belongs to the lanes `l` with `l % 4 == t`, as their number `2 * n + i`. Four more floats than needed spread the
// lanes over all banks.
struct WeightTile {
    int8_t values[GEMM_COLUMNS][GEMM_DEPTH];
    float scales[2][4][GEMM_COLUMNS / 4 + 4];
};

// A weight matrix [outputs, inputs]. Both numbers are multiples of 64.
struct Weight {
    const WeightTile *tiles; // [output / 64][step]
    const float *bias;       // [output], or null
    int outputs;
    int inputs;
};

// Quantised activations. Memory is allocated for whole tiles, so the GEMM may read after the last row.
struct Rows {
    RowTile *tiles; // [row / 128][step]
    int count;
    int steps;
};

// Place of the 16 bytes `number` in a row of 64.
__device__ __forceinline__ int permuted(int row, int number) { return ((number ^ (row >> 1)) & 3) * 16; }

__device__ __forceinline__ int8_t *value_at(const Rows &x, int row, int column) {
    RowTile &tile = x.tiles[size_t(row / TILE_ROWS) * x.steps + column / GEMM_DEPTH];
    return &tile.values[row % TILE_ROWS][permuted(row, column % GEMM_DEPTH / 16) + column % 16];
}

__device__ __forceinline__ float *scale_at(const Rows &x, int row, int block) {
    return &x.tiles[size_t(row / TILE_ROWS) * x.steps + block / 2].scales[block % 2][row % TILE_ROWS];
}

} // namespace
