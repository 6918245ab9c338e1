// The network with dense weights in f32, f16 or bf16, except linear layers and attention. The residual stream is f32.

#include "dense.cuh"

namespace {

template <typename T> __device__ void embed(const Row *rows, const T *table, int width, float *hidden) {
    uint32_t id = rows[blockIdx.x].input;
    if (id & VECTOR)
        return;
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        hidden[size_t(blockIdx.x) * width + i] = to_float(table[size_t(id) * width + i]);
}

// Four consecutive values of T.
template <typename T> struct alignas(4 * sizeof(T)) Four {
    T values[4];
};

// RMSNorm of one row per thread block, or per warp if BY_WARP: faster for many rows. `width` is a multiple of 8. Writes
// f32 rows if `floats` is not null, otherwise rows of T.
template <typename T, bool BY_WARP>
__device__ __forceinline__ void rms_norm_row(const float *hidden, const uint32_t *select, const float *weight,
                                             int width, float epsilon, int number, T *out, float *floats) {
    const float *x = hidden + size_t(select ? select[number] : number) * width;
    int first = 4 * (BY_WARP ? threadIdx.x % WARP : threadIdx.x), step = 4 * (BY_WARP ? WARP : blockDim.x);
    float squares = 0.0f;
#pragma unroll 4
    for (int i = first; i < width; i += step) {
        float4 v = *reinterpret_cast<const float4 *>(x + i);
        squares += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    }
    float scale = rsqrtf((BY_WARP ? warp_sum(squares) : block_sum(squares)) / width + epsilon);
#pragma unroll 4
    for (int i = first; i < width; i += step) {
        float4 v = *reinterpret_cast<const float4 *>(x + i), w = *reinterpret_cast<const float4 *>(weight + i);
        v = {v.x * scale * w.x, v.y * scale * w.y, v.z * scale * w.z, v.w * scale * w.w};
        if (floats) {
            *reinterpret_cast<float4 *>(floats + size_t(number) * width + i) = v;
        } else {
            Four<T> four = {{from_float<T>(v.x), from_float<T>(v.y), from_float<T>(v.z), from_float<T>(v.w)}};
            *reinterpret_cast<Four<T> *>(out + size_t(number) * width + i) = four;
        }
    }
}

template <typename T>
__device__ void rms_norm(const float *hidden, const uint32_t *select, const float *weight, int width, float epsilon,
                         int count, T *out, float *floats) {
    if (gridDim.x == count) {
        rms_norm_row<T, false>(hidden, select, weight, width, epsilon, blockIdx.x, out, floats);
    } else {
        int number = (blockIdx.x * blockDim.x + threadIdx.x) / WARP;
        if (number < count)
            rms_norm_row<T, true>(hidden, select, weight, width, epsilon, number, out, floats);
    }
}

// out = silu(gate) * up for rows [gate, up] of `width` values each, a multiple of 8.
template <typename T> __device__ void swiglu(const T *gate_up, int width, size_t count, T *out) {
    constexpr int VALUES = Chunk<T>::COUNT;
    for (size_t i = (size_t(blockIdx.x) * blockDim.x + threadIdx.x) * VALUES; i < count * width;
         i += size_t(gridDim.x) * blockDim.x * VALUES) {
        const T *row = gate_up + i / width * 2 * width + i % width;
        Chunk<T> gate = *reinterpret_cast<const Chunk<T> *>(row), up = *reinterpret_cast<const Chunk<T> *>(row + width);
#pragma unroll
        for (int k = 0; k < VALUES; ++k)
            gate.values[k] = from_float<T>(silu(to_float(gate.values[k])) * to_float(up.values[k]));
        *reinterpret_cast<Chunk<T> *>(out + i) = gate;
    }
}

// Argmax of part `blockIdx.y` of a row of logits per thread block, to `partial`, [row][gridDim.y]. Bit `id` of
// `masked`, if not null, excludes an id. Copies the logits of `targets`, if not null, to `target_logits`.
__device__ void argmax(const float *logits, int vocabulary, const uint32_t *masked, const uint32_t *targets,
                       Argmax *partial, float *target_logits) {
    __shared__ float firsts[WARP], seconds[WARP];
    __shared__ uint32_t ids[WARP];
    const float *row = logits + size_t(blockIdx.x) * vocabulary;
    float first = -INFINITY, second = -INFINITY;
    uint32_t id = ALL_LANES;
#pragma unroll 4
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < vocabulary; i += gridDim.y * blockDim.x)
        if (!masked || !(masked[i / 32] >> i % 32 & 1))
            merge_argmax(first, id, second, row[i], i, -INFINITY);
    auto merge_warp = [&]() {
        for (int offset = WARP / 2; offset > 0; offset /= 2) {
            float other_first = __shfl_xor_sync(ALL_LANES, first, offset);
            uint32_t other_id = __shfl_xor_sync(ALL_LANES, id, offset);
            merge_argmax(first, id, second, other_first, other_id, __shfl_xor_sync(ALL_LANES, second, offset));
        }
    };
    merge_warp();
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (lane == 0) {
        firsts[warp] = first;
        seconds[warp] = second;
        ids[warp] = id;
    }
    __syncthreads();
    if (warp > 0)
        return;
    bool valid = lane < blockDim.x / WARP;
    first = valid ? firsts[lane] : -INFINITY;
    second = valid ? seconds[lane] : -INFINITY;
    id = valid ? ids[lane] : ALL_LANES;
    merge_warp();
    if (lane > 0)
        return;
    partial[size_t(blockIdx.x) * gridDim.y + blockIdx.y] = {id, first, second, -INFINITY};
    if (targets && blockIdx.y == 0)
        target_logits[blockIdx.x] = row[targets[blockIdx.x]];
}

} // namespace

#define ROW_KERNELS(SUFFIX, T)                                                                                         \
    extern "C" __global__ void dense_embed_##SUFFIX(const Row *rows, const T *table, int width, float *hidden) {       \
        await_earlier_kernels();                                                                                       \
        embed<T>(rows, table, width, hidden);                                                                          \
    }                                                                                                                  \
    extern "C" __global__ void dense_rms_norm_##SUFFIX(const float *hidden, const uint32_t *select,                    \
                                                       const float *weight, int width, float epsilon, int count,       \
                                                       T *out, float *floats) {                                        \
        await_earlier_kernels();                                                                                       \
        rms_norm<T>(hidden, select, weight, width, epsilon, count, out, floats);                                       \
    }                                                                                                                  \
    extern "C" __global__ void dense_swiglu_##SUFFIX(const T *gate_up, int width, size_t count, T *out) {              \
        await_earlier_kernels();                                                                                       \
        swiglu<T>(gate_up, width, count, out);                                                                         \
    }

ROW_KERNELS(f32, float)
ROW_KERNELS(f16, __half)
ROW_KERNELS(bf16, __nv_bfloat16)

extern "C" __global__ void dense_argmax(const float *logits, int vocabulary, const uint32_t *masked,
                                        const uint32_t *targets, Argmax *partial, float *target_logits) {
    await_earlier_kernels();
    argmax(logits, vocabulary, masked, targets, partial, target_logits);
}

// Excludes ids from the argmax: `banned` has `count` pairs of an output row and an id, of which those with a row from
// `first` on, but before `first` + `rows`, concern `logits`.
extern "C" __global__ void dense_ban(const uint32_t *banned, int count, int first, int rows, int vocabulary,
                                     float *logits) {
    await_earlier_kernels();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        int row = int(banned[2 * i]) - first;
        if (row >= 0 && row < rows)
            logits[size_t(row) * vocabulary + banned[2 * i + 1]] = -INFINITY;
    }
}
