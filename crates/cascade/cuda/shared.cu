// Kernels that do not depend on the arithmetic of the network.

#include "common.cuh"

// Merges the partial results of each row, [row][parts]. One warp per row.
extern "C" __global__ void reduce_argmax(const Argmax *partial, const float *target_logits, int parts, int count,
                                         Argmax *out) {
    await_earlier_kernels();
    int row = (blockIdx.x * blockDim.x + threadIdx.x) / WARP, lane = threadIdx.x % WARP;
    if (row >= count)
        return;
    float first = -INFINITY, second = -INFINITY;
    uint32_t id = ALL_LANES;
    for (int part = lane; part < parts; part += WARP) {
        Argmax other = partial[size_t(row) * parts + part];
        merge_argmax(first, id, second, other.logit, other.id, other.runner_up);
    }
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        float other_first = __shfl_xor_sync(ALL_LANES, first, offset);
        uint32_t other_id = __shfl_xor_sync(ALL_LANES, id, offset);
        merge_argmax(first, id, second, other_first, other_id, __shfl_xor_sync(ALL_LANES, second, offset));
    }
    if (lane == 0)
        out[row] = {id, first, second, target_logits ? target_logits[row] : -INFINITY};
}

// Linear layer in f32: each output is a chain of fused multiply-adds in the order of the columns, from the bias on.
// Writes vector `i` of `x`, [vectors][inputs], to row `to[i]` of `hidden`. `weight` is [inputs][outputs]. A thread
// block computes VECTORS vectors and one output per thread.
constexpr int VECTORS = 8;

extern "C" __global__ void project(const float *x, const uint32_t *to, int count, int inputs, int outputs,
                                   const float *weight, const float *bias, float *hidden) {
    await_earlier_kernels();
    extern __shared__ float vectors[];
    int first = blockIdx.x * VECTORS, output = blockIdx.y * blockDim.x + threadIdx.x;
    int own = min(VECTORS, count - first);
    for (int i = threadIdx.x; i < own * inputs; i += blockDim.x)
        vectors[i] = x[size_t(first) * inputs + i];
    __syncthreads();
    if (output >= outputs)
        return;
    float totals[VECTORS];
#pragma unroll
    for (int v = 0; v < VECTORS; ++v)
        totals[v] = bias[output];
    for (int i = 0; i < inputs; ++i) {
        float w = weight[size_t(i) * outputs + output];
#pragma unroll
        for (int v = 0; v < VECTORS; ++v)
            totals[v] = __fmaf_rn(vectors[(v < own ? v : 0) * inputs + i], w, totals[v]);
    }
    for (int v = 0; v < own; ++v)
        hidden[size_t(to[first + v]) * outputs + output] = totals[v];
}

// Copies row `from` of `vectors` (a query embedding, say) to row `to` of `hidden`.
extern "C" __global__ void copy_vectors(const float *vectors, const uint32_t *from, const uint32_t *to, int width,
                                        float *hidden) {
    await_earlier_kernels();
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        hidden[size_t(to[blockIdx.x]) * width + i] = vectors[size_t(from[blockIdx.x]) * width + i];
}
