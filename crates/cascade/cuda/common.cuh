// Types and functions that all kernels share. src/network/cuda/pass.rs writes the structs.
#pragma once

#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// A sequence of the pass: where its keys and values are, and which rows its rows attend to.
struct Sequence {
    // KV cache of the sequence, on the device.
    unsigned char *kv;
    // Capacity of the cache: rows that attend to all earlier rows (a multiple of 32), and text slots (even).
    uint32_t causal_capacity;
    uint32_t slot_capacity;
    // Rows of the prompt. Rows from here on are text slots.
    uint32_t prompt;
    // Text slots per block.
    uint32_t block;
};

// A row of the pass.
struct Row {
    // Index of its sequence in the pass.
    uint32_t sequence;
    // Row of the sequence: a prompt row, or `prompt` plus the number of the text slot, in text order.
    uint32_t place;
    // Position id, which selects the rotary angles.
    uint32_t position;
    // Input: a token id, or VECTOR plus the index of an input vector.
    uint32_t input;
};

constexpr uint32_t VECTOR = 1u << 31;

// Consecutive rows of the pass that belong to one sequence and are computed by one thread block.
struct Tile {
    uint32_t sequence;
    uint32_t first;
    uint32_t count;
};

// A KV cache whose first rows are a copy of another's.
struct Fork {
    Sequence from;
    Sequence to;
    uint32_t rows;
    uint32_t padding;
};

// Largest logit of a row, its id, the largest other logit, and the logit of the target id.
struct Argmax {
    uint32_t id;
    float logit;
    float runner_up;
    float target;
};

// Every kernel calls this before it reads what earlier kernels wrote, or writes what they read. Lets the next kernel
// start, which then waits here itself, and waits until all earlier kernels have finished. On cards before Hopper,
// kernels start one after the other anyway.
__device__ __forceinline__ void await_earlier_kernels() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;\ngriddepcontrol.wait;\n" ::: "memory");
#endif
}

// The shared memory of a thread block whose size the launch sets.
__device__ __forceinline__ unsigned char *dynamic_shared() {
    extern __shared__ __align__(16) unsigned char shared_bytes[];
    return shared_bytes;
}

__device__ __forceinline__ float warp_max(float x) {
    for (int offset = WARP / 2; offset > 0; offset /= 2)
        x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, offset));
    return x;
}

__device__ __forceinline__ float warp_sum(float x) {
    for (int offset = WARP / 2; offset > 0; offset /= 2)
        x += __shfl_xor_sync(ALL_LANES, x, offset);
    return x;
}

// Largest of 32 floats that are not negative. Their bits are ordered like unsigned integers.
__device__ __forceinline__ float warp_max_positive(float x) {
    return __uint_as_float(__reduce_max_sync(ALL_LANES, __float_as_uint(x)));
}

__device__ __forceinline__ void copy_async_16(void *shared, const void *global) {
    unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(to), "l"(global) : "memory");
}

__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }

template <int N> __device__ __forceinline__ void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void *shared) {
    unsigned from = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from));
}

// Combines two results for disjoint sets of ids. Equal logits keep the smaller id.
__device__ __forceinline__ void merge_argmax(float &first, uint32_t &id, float &second, float other_first,
                                             uint32_t other_id, float other_second) {
    bool other = other_first > first || (other_first == first && other_id < id);
    second = fmaxf(fmaxf(second, other_second), other ? first : other_first);
    id = other ? other_id : id;
    first = other ? other_first : first;
}
