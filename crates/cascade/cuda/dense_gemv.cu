// Linear layers of few rows with dense weights. Their time is that of reading the weights once.

#include "dense.cuh"

namespace {

constexpr int THREADS = 256;
// Chunks per lane that are being copied or used.
constexpr int RING = 8;

// Starts copies of `count` values to shared memory.
template <typename T> __device__ __forceinline__ void copy_values(T *x, const T *from, int count) {
    for (int i = threadIdx.x * Chunk<T>::COUNT; i < count; i += THREADS * Chunk<T>::COUNT)
        copy_async_16(x + i, from + i);
}

// Writes RMSNorm of `count` rows of `hidden` to shared memory. `scratch` has a row of floats.
template <typename T>
__device__ __forceinline__ void normalise(T *x, float *scratch, int inputs, int count, const float *hidden,
                                          const float *norm, float epsilon) {
    for (int row = 0; row < count; ++row) {
        float squares = 0.0f;
        // A thread reads back what it wrote itself.
#pragma unroll 2
        for (int i = threadIdx.x * 4; i < inputs; i += THREADS * 4) {
            float4 value = *reinterpret_cast<const float4 *>(hidden + size_t(row) * inputs + i);
            float4 weight = *reinterpret_cast<const float4 *>(norm + i);
            squares += value.x * value.x + value.y * value.y + value.z * value.z + value.w * value.w;
            *reinterpret_cast<float4 *>(scratch + i) = {value.x * weight.x, value.y * weight.y, value.z * weight.z,
                                                        value.w * weight.w};
        }
        float scale = rsqrtf(block_sum(squares) / inputs + epsilon);
        for (int i = threadIdx.x * 4; i < inputs; i += THREADS * 4)
#pragma unroll
            for (int k = i; k < i + 4; ++k)
                x[row * inputs + k] = from_float<T>(scratch[k] * scale);
        __syncthreads();
    }
}

// Waits for the other warp of a team of two.
__device__ __forceinline__ void await_team() {
    asm volatile("bar.sync %0, 64;\n" ::"r"(1 + threadIdx.x / (2 * WARP)) : "memory");
}

// Computes `x W^T` for `count` rows, at most ROWS. `weight` is [outputs][inputs]; `inputs` is a multiple of 8. A team
// of `team` lanes, one or two warps, computes one output at a time. Each lane copies the next chunks of the weights to
// its own places in shared memory while it uses earlier ones. Writes rows of T to `out`, or f32 rows to `floats`, to
// which it adds if `add` is set. If PAIRED is set, outputs `i` and `i + outputs / 2` are gate and up of an MLP, and the
// result is that of SwiGLU, [count][outputs / 2].
template <typename T, int ROWS, bool PAIRED>
__device__ void gemv(const T *weight, int outputs, int inputs, int count, const T *rows, const float *hidden,
                     const float *norm, float epsilon, T *out, float *floats, bool add, int team) {
    __shared__ float halves[THREADS / WARP][ROWS * (PAIRED ? 2 : 1)];
    constexpr int VALUES = Chunk<T>::COUNT, PARTS = PAIRED ? 2 : 1, STAGES = RING / PARTS;
    Chunk<T> *ring = reinterpret_cast<Chunk<T> *>(dynamic_shared()) + threadIdx.x;
    T *x = reinterpret_cast<T *>(dynamic_shared() + RING * THREADS * sizeof(Chunk<T>));
    auto place = [&](int stage, int part) { return ring + (stage * PARTS + part) * THREADS; };
    int items = outputs / PARTS, stride = gridDim.x * (THREADS / team), step = team * VALUES;
    int item = blockIdx.x + gridDim.x * (threadIdx.x / team), first_column = threadIdx.x % team * VALUES;

    int copy_item = item, copy_column = first_column, copy_stage = 0;
    auto copy_next = [&]() {
        if (copy_item < items) {
            if (copy_column < inputs)
#pragma unroll
                for (int part = 0; part < PARTS; ++part)
                    copy_async_16(place(copy_stage, part),
                                  weight + size_t(copy_item + part * items) * inputs + copy_column);
            copy_column += step;
            // All lanes take the same number of steps per item.
            if (copy_column - first_column >= inputs) {
                copy_column = first_column;
                copy_item += stride;
            }
            copy_stage = (copy_stage + 1) % STAGES;
        }
        copy_async_commit();
    };
#pragma unroll
    for (int i = 0; i < STAGES - 1; ++i)
        copy_next();
    // Weights do not depend on earlier kernels.
    await_earlier_kernels();
    if (!hidden)
        copy_values(x, rows, count * inputs);
    else
        normalise(x, reinterpret_cast<float *>(x + count * inputs), inputs, count, hidden, norm, epsilon);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    for (int stage = 0; item < items; item += stride) {
        float sums[PARTS][ROWS] = {};
        for (int start = 0; start < inputs; start += step) {
            copy_async_wait<STAGES - 2>();
            int column = start + first_column;
            if (column < inputs) {
                Chunk<T> weights[PARTS];
#pragma unroll
                for (int part = 0; part < PARTS; ++part)
                    weights[part] = *place(stage, part);
#pragma unroll
                for (int row = 0; row < ROWS; ++row) {
                    // Rows from `count` on repeat the last row. Their results are not written.
                    const T *from = x + min(row, count - 1) * inputs + column;
                    Chunk<T> values = *reinterpret_cast<const Chunk<T> *>(from);
#pragma unroll
                    for (int part = 0; part < PARTS; ++part)
#pragma unroll
                        for (int i = 0; i < VALUES; ++i)
                            sums[part][row] += to_float(weights[part].values[i]) * to_float(values.values[i]);
                }
            }
            stage = (stage + 1) % STAGES;
            copy_next();
        }
#pragma unroll
        for (int row = 0; row < ROWS; ++row)
#pragma unroll
            for (int part = 0; part < PARTS; ++part)
                sums[part][row] = warp_sum(sums[part][row]);
        if (team > WARP) {
            int warp = threadIdx.x / WARP;
            if (warp % 2 == 1 && threadIdx.x % WARP == 0)
#pragma unroll
                for (int i = 0; i < ROWS * PARTS; ++i)
                    halves[warp][i] = sums[i % PARTS][i / PARTS];
            await_team();
            if (warp % 2 == 0)
#pragma unroll
                for (int i = 0; i < ROWS * PARTS; ++i)
                    sums[i % PARTS][i / PARTS] += halves[warp + 1][i];
            await_team();
        }
#pragma unroll
        for (int row = 0; row < ROWS; ++row) {
            float sum = sums[0][row];
            if (PAIRED)
                sum = silu(to_float(from_float<T>(sum))) * to_float(from_float<T>(sums[PARTS - 1][row]));
            if (threadIdx.x % team > 0 || row >= count)
                continue;
            size_t to = size_t(row) * items + item;
            if (floats)
                floats[to] = add ? floats[to] + sum : sum;
            else
                out[to] = from_float<T>(sum);
        }
    }
}

} // namespace

#define GEMV_KERNEL(NAME, T, ROWS, PAIRED)                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS, 4)                                                           \
        NAME(const T *weight, int outputs, int inputs, int count, const T *rows, const float *hidden,                  \
             const float *norm, float epsilon, T *out, float *floats, int add, int team) {                             \
        gemv<T, ROWS, PAIRED>(weight, outputs, inputs, count, rows, hidden, norm, epsilon, out, floats, add, team);    \
    }

#define GEMV_KERNELS(SUFFIX, T)                                                                                        \
    GEMV_KERNEL(dense_gemv_1_##SUFFIX, T, 1, false)                                                                    \
    GEMV_KERNEL(dense_gemv_4_##SUFFIX, T, 4, false)                                                                    \
    GEMV_KERNEL(dense_gemv_swiglu_1_##SUFFIX, T, 1, true)                                                              \
    GEMV_KERNEL(dense_gemv_swiglu_4_##SUFFIX, T, 4, true)

GEMV_KERNELS(f32, float)
GEMV_KERNELS(f16, __half)
GEMV_KERNELS(bf16, __nv_bfloat16)
