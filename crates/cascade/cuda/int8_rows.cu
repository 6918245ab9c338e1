// Operations of c3-int8-2 on single rows: embedding and RMSNorm.

#include "int8.cuh"

// Writes the input rows that are tokens to `hidden`, [row][width].
extern "C" __global__ void int8_embed(const Row *rows, Weight table, float *hidden) {
    await_earlier_kernels();
    uint32_t id = rows[blockIdx.x].input;
    if (id & VECTOR)
        return;
    for (int i = threadIdx.x; i < table.inputs; i += blockDim.x) {
        int output = id % GEMM_COLUMNS, column = i % GEMM_DEPTH;
        const WeightTile &tile = table.tiles[size_t(id / GEMM_COLUMNS) * (table.inputs / GEMM_DEPTH) + i / GEMM_DEPTH];
        float scale = tile.scales[column / QUANT_BLOCK][output % 8 / 2][output / 8 * 2 + output % 2];
        hidden[size_t(blockIdx.x) * table.inputs + i] =
            __fmul_rn(__int2float_rn(tile.values[output][permuted(output, column / 16) + column % 16]), scale);
    }
}

// RMSNorm of one row per warp. `select` lists the rows to normalise, or is null for all of them. Writes quantised rows,
// or f32 rows if `floats` is not null. BLOCKS is the number of blocks of 32 columns, if it is known at compile time.
template <int BLOCKS>
__device__ __forceinline__ void rms_norm(const float *__restrict__ hidden, const uint32_t *select,
                                         const float *__restrict__ weight, int width, float epsilon, const Rows &out,
                                         float *floats) {
    int number = (blockIdx.x * blockDim.x + threadIdx.x) / WARP, lane = threadIdx.x % WARP;
    if (number >= out.count)
        return;
    int blocks = BLOCKS ? BLOCKS : width / QUANT_BLOCK;
    const float *x = hidden + size_t(select ? select[number] : number) * width + lane;
    float values[BLOCKS ? BLOCKS : 1], weights[BLOCKS ? BLOCKS : 1];
    if (BLOCKS) {
#pragma unroll
        for (int block = 0; block < BLOCKS; ++block) {
            values[block] = x[block * QUANT_BLOCK];
            weights[block] = weight[block * QUANT_BLOCK + lane];
        }
    }
    // Lanes 0 to 15 sum the squares of every 16th column, in order.
    float squares = 0.0f;
#pragma unroll
    for (int block = 0; block < blocks; ++block) {
        float lower = BLOCKS ? values[block] : x[block * QUANT_BLOCK];
        float upper = __shfl_down_sync(ALL_LANES, lower, 16);
        squares = __fmaf_rn(upper, upper, __fmaf_rn(lower, lower, squares));
    }
    squares = __shfl_sync(ALL_LANES, sum_16_lanes(squares), 0);
    float scale = __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(__fdiv_rn(squares, static_cast<float>(width)), epsilon)));
    auto normed = [&](int block) {
        float value = BLOCKS ? values[block] : x[block * QUANT_BLOCK];
        return __fmul_rn(__fmul_rn(value, scale), BLOCKS ? weights[block] : weight[block * QUANT_BLOCK + lane]);
    };
    if (floats) {
        for (int block = 0; block < blocks; ++block)
            floats[size_t(number) * width + block * QUANT_BLOCK + lane] =
                __fmul_rn(__fmul_rn(x[block * QUANT_BLOCK], scale), weight[block * QUANT_BLOCK + lane]);
        return;
    }
    // Each lane divides for one of up to 32 blocks.
    for (int first = 0; first < blocks; first += WARP) {
        float max_abs = 0.0f;
#pragma unroll
        for (int block = first; block < (BLOCKS ? BLOCKS : min(blocks, first + WARP)); ++block) {
            float of_block = warp_max_positive(fabsf(normed(block)));
            max_abs = lane == block - first ? of_block : max_abs;
        }
        float steps = quant_steps(max_abs);
        if (first + lane < blocks)
            *scale_at(out, number, first + lane) = quant_scale(max_abs);
#pragma unroll
        for (int block = first; block < (BLOCKS ? BLOCKS : min(blocks, first + WARP)); ++block)
            *value_at(out, number, block * QUANT_BLOCK + lane) =
                quantise(normed(block), __shfl_sync(ALL_LANES, steps, block - first));
        if (BLOCKS)
            break;
    }
}

extern "C" __global__ void int8_rms_norm(const float *hidden, const uint32_t *select, const float *weight, int width,
                                         float epsilon, Rows out, float *floats) {
    await_earlier_kernels();
    // The width of the default model keeps a row in registers.
    if (width == 576)
        rms_norm<576 / QUANT_BLOCK>(hidden, select, weight, width, epsilon, out, floats);
    else
        rms_norm<0>(hidden, select, weight, width, epsilon, out, floats);
}
