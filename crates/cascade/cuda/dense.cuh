// Conversions and sums that the kernels with dense weights share.
#pragma once

#include "common.cuh"

template <typename T> __device__ __forceinline__ float to_float(T x);
template <> __device__ __forceinline__ float to_float(float x) { return x; }
template <> __device__ __forceinline__ float to_float(__half x) { return __half2float(x); }
template <> __device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float(float x) { return x; }
template <> __device__ __forceinline__ __half from_float(float x) { return __float2half_rn(x); }
template <> __device__ __forceinline__ __nv_bfloat16 from_float(float x) { return __float2bfloat16_rn(x); }

// As many values of T as one instruction loads: 16 bytes.
template <typename T> struct alignas(16) Chunk {
    static constexpr int COUNT = 16 / sizeof(T);
    T values[COUNT];
};

__device__ __forceinline__ float silu(float x) { return x / (1.0f + __expf(-x)); }

// Sum over the threads of a block of whole warps.
__device__ __forceinline__ float block_sum(float x) {
    __shared__ float sums[WARP];
    x = warp_sum(x);
    if (threadIdx.x % WARP == 0)
        sums[threadIdx.x / WARP] = x;
    __syncthreads();
    x = threadIdx.x % WARP < blockDim.x / WARP ? sums[threadIdx.x % WARP] : 0.0f;
    return warp_sum(x);
}
