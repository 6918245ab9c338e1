// Linear layers of c3-int8-2, with what follows them: residual, SwiGLU, argmax.

#include "int8.cuh"

namespace {

// The integer of an accumulator that started at ROUND_BITS, as a float. Exact below 2^22.
__device__ __forceinline__ float rounded(int accumulator) { return __fadd_rn(__int_as_float(accumulator), -ROUND); }

// Tensor-core product of 16 x 32 activations and 32 x 8 weights, added to `c`.
__device__ __forceinline__ void multiply(int (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%10,%10,%10,%10};\n"
                 : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(ROUND_BITS));
}

// One stage of the pipeline from global to shared memory.
template <int ROWS> struct Stage {
    alignas(512) int8_t rows[ROWS][GEMM_DEPTH];
    float row_scales[2][ROWS];
    alignas(512) WeightTile weights;
};

// Address of 16 bytes in a row of a tile.
__device__ __forceinline__ int8_t *chunk(int8_t (*rows)[GEMM_DEPTH], int row, int number) {
    return &rows[row][permuted(row, number)];
}

// Copies BYTES bytes with all threads of the block.
template <int BYTES, int THREADS> __device__ __forceinline__ void copy_async(void *shared, const void *global) {
#pragma unroll
    for (int i = 0; i < BYTES; i += THREADS * 16) {
        int at = i + threadIdx.x * 16;
        if (BYTES % (THREADS * 16) == 0 || at < BYTES)
            copy_async_16(static_cast<char *>(shared) + at, static_cast<const char *>(global) + at);
    }
}

// Adds exact sums, scaled by the scales of two outputs and of two rows.
__device__ __forceinline__ void add_scaled(float (&totals)[4], const int (&sums)[4], float left, float right,
                                           float above, float below) {
    totals[0] = __fmaf_rn(rounded(sums[0]), __fmul_rn(left, above), totals[0]);
    totals[1] = __fmaf_rn(rounded(sums[1]), __fmul_rn(right, above), totals[1]);
    totals[2] = __fmaf_rn(rounded(sums[2]), __fmul_rn(left, below), totals[2]);
    totals[3] = __fmaf_rn(rounded(sums[3]), __fmul_rn(right, below), totals[3]);
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
// Hopper copies whole tiles without the help of the warps, and its matrix instructions read both operands from shared
// memory while the warps scale earlier sums.

__device__ __forceinline__ unsigned shared_address(const void *shared) {
    return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

__device__ __forceinline__ void init_barrier(uint64_t *barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(shared_address(barrier)), "r"(arrivals));
}

__device__ __forceinline__ void expect_bytes(uint64_t *barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void arrive(uint64_t *barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(shared_address(barrier)) : "memory");
}

// Waits until the phase of the barrier with this parity is complete.
__device__ __forceinline__ void wait_barrier(uint64_t *barrier, int parity) {
    asm volatile(
        "{\n.reg .pred done;\nWAIT:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@done bra DONE;\nbra WAIT;\nDONE:\n}\n" ::"r"(
            shared_address(barrier)),
        "r"(parity)
        : "memory");
}

// Copies `bytes` contiguous bytes, and counts them at the barrier when they have arrived.
__device__ __forceinline__ void copy_bulk(void *shared, const void *global, int bytes, uint64_t *barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::"r"(
                     shared_address(shared)),
                 "l"(global), "r"(bytes), "r"(shared_address(barrier))
                 : "memory");
}

// Descriptor of a matrix of rows of 64 bytes: address, distance between groups of eight rows, 64-byte swizzle.
__device__ __forceinline__ uint64_t matrix_descriptor(const int8_t *shared) {
    uint64_t address = __cvta_generic_to_shared(shared);
    return (address >> 4 & 0x3fff) | uint64_t(1) << 16 | uint64_t(512 >> 4) << 32 | uint64_t(2) << 62;
}

// Starts the product of 64 rows and 64 outputs over 32 columns. Four warps compute it together.
__device__ __forceinline__ void start_product(int (&c)[32], uint64_t rows, uint64_t weights) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 0, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k32.s32.s8.s8 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, p;\n}\n"
                 : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3]), "=r"(c[4]), "=r"(c[5]), "=r"(c[6]), "=r"(c[7]),
                   "=r"(c[8]), "=r"(c[9]), "=r"(c[10]), "=r"(c[11]), "=r"(c[12]), "=r"(c[13]), "=r"(c[14]), "=r"(c[15]),
                   "=r"(c[16]), "=r"(c[17]), "=r"(c[18]), "=r"(c[19]), "=r"(c[20]), "=r"(c[21]), "=r"(c[22]),
                   "=r"(c[23]), "=r"(c[24]), "=r"(c[25]), "=r"(c[26]), "=r"(c[27]), "=r"(c[28]), "=r"(c[29]),
                   "=r"(c[30]), "=r"(c[31])
                 : "l"(rows), "l"(weights));
    asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}

// Waits until at most N products of this warp are unfinished. `c` is the result of the one before them.
template <int N> __device__ __forceinline__ void wait_product(int (&c)[32]) {
    asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(N) : "memory");
#pragma unroll
    for (int i = 0; i < 32; ++i)
        asm volatile("" : "+r"(c[i])::"memory");
}

// Adds the scaled sums of half a stage to the totals of a tile of 16 rows per warp.
template <int ROWS>
__device__ __forceinline__ void add_product(float (&totals)[GEMM_TILES][4], const int (&sums)[32],
                                            const Stage<ROWS> &stage, int half) {
    int lane = threadIdx.x % WARP, row = threadIdx.x / WARP * 16 + lane / 4;
    float above = stage.row_scales[half][row], below = stage.row_scales[half][row + 8];
#pragma unroll
    for (int pair = 0; pair < GEMM_TILES / 2; ++pair) {
        float4 weights = *reinterpret_cast<const float4 *>(stage.weights.scales[half][lane % 4] + 4 * pair);
        float columns[4] = {weights.x, weights.y, weights.z, weights.w};
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                float scale = __fmul_rn(columns[2 * n + i % 2], i < 2 ? above : below);
                float &total = totals[2 * pair + n][i];
                total = __fmaf_rn(__int2float_rn(sums[8 * pair + 4 * n + i]), scale, total);
            }
    }
}

#endif

// Adds the products of one stage to `totals`: see `gemm_tiles`.
template <int ROWS, int M_TILES>
__device__ __forceinline__ void add_stage(float (&totals)[M_TILES][GEMM_TILES][4], Stage<ROWS> &stage) {
    int lane = threadIdx.x % WARP, warp_row = threadIdx.x / WARP * 16 * M_TILES;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        uint32_t a[M_TILES][4];
        float scales[M_TILES][2];
#pragma unroll
        for (int m = 0; m < M_TILES; ++m) {
            load_matrices(a[m], chunk(stage.rows, warp_row + 16 * m + lane % 16, 2 * half + lane / 16));
            scales[m][0] = stage.row_scales[half][warp_row + 16 * m + lane / 4];
            scales[m][1] = stage.row_scales[half][warp_row + 16 * m + lane / 4 + 8];
        }
#pragma unroll
        for (int pair = 0; pair < GEMM_TILES / 2; ++pair) {
            uint32_t b[4];
            load_matrices(b,
                          chunk(stage.weights.values, 16 * pair + lane % 8 + lane / 16 * 8, 2 * half + lane / 8 % 2));
            float4 weights = *reinterpret_cast<float4 *>(stage.weights.scales[half][lane % 4] + 4 * pair);
#pragma unroll
            for (int m = 0; m < M_TILES; ++m) {
                int sums[2][4];
                multiply(sums[0], a[m], b[0], b[1]);
                multiply(sums[1], a[m], b[2], b[3]);
                add_scaled(totals[m][2 * pair], sums[0], weights.x, weights.y, scales[m][0], scales[m][1]);
                add_scaled(totals[m][2 * pair + 1], sums[1], weights.z, weights.w, scales[m][0], scales[m][1]);
            }
        }
    }
}

// A tile of x W^T: rows from `row` on, outputs from `output` on. `number` counts the tiles of 64 outputs.
struct OutputTile {
    int row;
    int output;
    int number;
};

// Tile `index` of x W^T. Consecutive tiles share their rows.
template <int ROWS> __device__ __forceinline__ OutputTile output_tile(const Weight &w, int index) {
    int columns = w.outputs / GEMM_COLUMNS;
    return {index / columns * ROWS, index % columns * GEMM_COLUMNS, index % columns};
}

template <int ROWS> __device__ __forceinline__ int output_tiles(const Rows &x, const Weight &w) {
    return (x.count + ROWS - 1) / ROWS * (w.outputs / GEMM_COLUMNS);
}

// Computes x W^T + b in tiles of ROWS rows and 64 outputs, and passes each tile to `write(tile, totals)`. A thread
// block computes every gridDim.x-th tile. A warp computes 16 * M_TILES rows of a tile: element `i` of `totals[m][n]` is
// row `16 * m + lane / 4 + 8 * (i / 2)`, output `8 * n + 2 * (lane % 4) + i % 2`.
template <int ROWS, int M_TILES, typename Write>
__device__ __forceinline__ void gemm_tiles(const Rows &x, const Weight &w, Write write) {
    constexpr int THREADS = ROWS / (16 * M_TILES) * WARP;
    // Stages start at a multiple of 512 bytes, for which the launch reserves memory.
    unsigned char *shared = dynamic_shared();
    shared += (512 - __cvta_generic_to_shared(shared) % 512) % 512;
    Stage<ROWS> *stages = reinterpret_cast<Stage<ROWS> *>(shared);
    int steps = x.steps, tiles = output_tiles<ROWS>(x, w);
    auto rows_of = [&](int row) { return x.tiles + size_t(row / TILE_ROWS) * steps; };
    auto weights_of = [&](int output) { return w.tiles + size_t(output / GEMM_COLUMNS) * steps; };
    auto add_bias = [&](const OutputTile &tile, float (&totals)[M_TILES][GEMM_TILES][4]) {
#pragma unroll
        for (int n = 0; n < GEMM_TILES; ++n) {
            int output = tile.output + 8 * n + threadIdx.x % 4 * 2;
            float bias[2] = {w.bias ? w.bias[output] : 0.0f, w.bias ? w.bias[output + 1] : 0.0f};
#pragma unroll
            for (int m = 0; m < M_TILES; ++m)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    totals[m][n][i] = __fadd_rn(totals[m][n][i], bias[i % 2]);
        }
    };
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    {
        __shared__ uint64_t full[GEMM_STAGES], empty[GEMM_STAGES];
        if (threadIdx.x == 0) {
            for (int i = 0; i < GEMM_STAGES; ++i) {
                init_barrier(&full[i], 1);
                init_barrier(&empty[i], THREADS);
            }
            asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
        }
        __syncthreads();
        // The warps take turns to copy a stage ahead, also those of the next tile. A stage is free once every thread
        // has read what it had before.
        constexpr int WARPS = THREADS / WARP;
        int copied = 0, copied_step = 0, copied_tile = blockIdx.x;
        auto copy = [&](int warp) {
            if (copied_tile >= tiles)
                return;
            if (threadIdx.x == warp * WARP) {
                int number = copied % GEMM_STAGES;
                Stage<ROWS> &stage = stages[number];
                OutputTile tile = output_tile<ROWS>(w, copied_tile);
                const RowTile &rows = rows_of(tile.row)[copied_step];
                if (copied >= GEMM_STAGES)
                    wait_barrier(&empty[number], (copied / GEMM_STAGES - 1) % 2);
                expect_bytes(&full[number], ROWS * (GEMM_DEPTH + 8) + sizeof(WeightTile));
                if (ROWS == TILE_ROWS) {
                    copy_bulk(stage.rows, &rows, sizeof(RowTile), &full[number]);
                } else {
                    int row = tile.row % TILE_ROWS;
                    copy_bulk(stage.rows, rows.values[row], ROWS * GEMM_DEPTH, &full[number]);
                    copy_bulk(stage.row_scales[0], &rows.scales[0][row], ROWS * 4, &full[number]);
                    copy_bulk(stage.row_scales[1], &rows.scales[1][row], ROWS * 4, &full[number]);
                }
                copy_bulk(&stage.weights, weights_of(tile.output) + copied_step, sizeof(WeightTile), &full[number]);
            }
            ++copied;
            if (++copied_step == steps) {
                copied_step = 0;
                copied_tile += gridDim.x;
            }
        };
        for (int i = 0; i < GEMM_STAGES - 2; ++i)
            copy(0);
        uint64_t row_matrix = matrix_descriptor(stages[0].rows[threadIdx.x / 128 * 64]);
        uint64_t weight_matrix = matrix_descriptor(stages[0].weights.values[0]);
        int done = 0;
        for (int index = blockIdx.x; index < tiles; index += gridDim.x) {
            float totals[M_TILES][GEMM_TILES][4] = {};
            for (int step = 0; step < steps; ++step, ++done) {
                copy(done % WARPS);
                __syncwarp();
                int number = done % GEMM_STAGES;
                wait_barrier(&full[number], done / GEMM_STAGES % 2);
                Stage<ROWS> &stage = stages[number];
                if constexpr (ROWS == TILE_ROWS && M_TILES == 1) {
                    // Addresses in descriptors are in units of 16 bytes. The second half of a row begins 32 bytes
                    // later.
                    uint64_t offset = number * (sizeof(Stage<ROWS>) / 16);
                    int sums[2][32];
                    asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
                    start_product(sums[0], row_matrix + offset, weight_matrix + offset);
                    start_product(sums[1], row_matrix + offset + 2, weight_matrix + offset + 2);
                    wait_product<1>(sums[0]);
                    add_product(totals[0], sums[0], stage, 0);
                    wait_product<0>(sums[1]);
                    add_product(totals[0], sums[1], stage, 1);
                } else {
                    add_stage(totals, stage);
                }
                // Every thread arrives, not one per warp, so that racecheck sees the order of reads and later copies.
                arrive(&empty[number]);
            }
            OutputTile tile = output_tile<ROWS>(w, index);
            add_bias(tile, totals);
            write(tile, totals);
        }
    }
#else
    for (int index = blockIdx.x; index < tiles; index += gridDim.x) {
        OutputTile tile = output_tile<ROWS>(w, index);
        const RowTile *rows = rows_of(tile.row);
        const WeightTile *weights = weights_of(tile.output);
        int row = tile.row % TILE_ROWS;
        auto copy = [&](int step) {
            Stage<ROWS> &stage = stages[step % GEMM_STAGES];
            copy_async<ROWS * GEMM_DEPTH, THREADS>(stage.rows, rows[step].values[row]);
            copy_async<ROWS * 4, THREADS>(stage.row_scales[0], &rows[step].scales[0][row]);
            copy_async<ROWS * 4, THREADS>(stage.row_scales[1], &rows[step].scales[1][row]);
            copy_async<sizeof(WeightTile), THREADS>(&stage.weights, &weights[step]);
        };
        float totals[M_TILES][GEMM_TILES][4] = {};
        for (int step = 0; step < GEMM_STAGES - 1; ++step) {
            if (step < steps)
                copy(step);
            copy_async_commit();
        }
        for (int step = 0; step < steps; ++step) {
            copy_async_wait<GEMM_STAGES - 2>();
            __syncthreads();
            if (step + GEMM_STAGES - 1 < steps)
                copy(step + GEMM_STAGES - 1);
            copy_async_commit();
            add_stage(totals, stages[step % GEMM_STAGES]);
        }
        __syncthreads();
        add_bias(tile, totals);
        write(tile, totals);
    }
#endif
}

// Row of element `i` of part `m` of a warp's tile.
template <int M_TILES> __device__ __forceinline__ int row_of(const OutputTile &tile, int m, int i) {
    return tile.row + threadIdx.x / WARP * 16 * M_TILES + 16 * m + threadIdx.x % WARP / 4 + 8 * (i / 2);
}

// out = x W^T + b, or out += x W^T + b if ADD.
template <int ROWS, int M_TILES, bool ADD> __device__ __forceinline__ void gemm(Rows x, Weight w, float *out) {
    gemm_tiles<ROWS, M_TILES>(x, w, [&](const OutputTile &tile, float (&totals)[M_TILES][GEMM_TILES][4]) {
#pragma unroll
        for (int m = 0; m < M_TILES; ++m)
#pragma unroll
            for (int i = 0; i < 4; i += 2) {
                int row = row_of<M_TILES>(tile, m, i);
                if (row >= x.count)
                    continue;
                float *to_row = out + size_t(row) * w.outputs + tile.output + threadIdx.x % 4 * 2;
                float2 old[GEMM_TILES];
#pragma unroll
                for (int n = 0; n < GEMM_TILES; ++n)
                    if (ADD)
                        old[n] = *reinterpret_cast<float2 *>(to_row + 8 * n);
#pragma unroll
                for (int n = 0; n < GEMM_TILES; ++n) {
                    float2 value = make_float2(totals[m][n][i], totals[m][n][i + 1]);
                    if (ADD)
                        value = make_float2(__fadd_rn(old[n].x, value.x), __fadd_rn(old[n].y, value.y));
                    *reinterpret_cast<float2 *>(to_row + 8 * n) = value;
                }
            }
    });
}

// Quantised silu(gate) * up. The weight interleaves 8 outputs of gate and 8 of up, so a tile has 32 outputs of each.
template <int ROWS, int M_TILES> __device__ __forceinline__ void gemm_swiglu(Rows x, Weight w, Rows out) {
    gemm_tiles<ROWS, M_TILES>(x, w, [&](const OutputTile &tile, float (&totals)[M_TILES][GEMM_TILES][4]) {
#pragma unroll
        for (int m = 0; m < M_TILES; ++m)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                float values[GEMM_TILES], max_abs = 0.0f;
#pragma unroll
                for (int i = 0; i < GEMM_TILES; ++i) {
                    float gate = totals[m][i / 2 * 2][2 * half + i % 2],
                          up = totals[m][i / 2 * 2 + 1][2 * half + i % 2];
                    float e = exp_negative(-fabsf(gate));
                    float sigmoid = divide(gate >= 0.0f ? 1.0f : e, __fadd_rn(1.0f, e));
                    values[i] = __fmul_rn(__fmul_rn(gate, sigmoid), up);
                    max_abs = fmaxf(max_abs, fabsf(values[i]));
                }
                max_abs = fmaxf(max_abs, __shfl_xor_sync(ALL_LANES, max_abs, 1));
                max_abs = fmaxf(max_abs, __shfl_xor_sync(ALL_LANES, max_abs, 2));
                int row = row_of<M_TILES>(tile, m, 2 * half);
                if (row >= x.count)
                    continue;
                float steps = quant_steps(max_abs);
#pragma unroll
                for (int i = 0; i < GEMM_TILES; i += 2) {
                    int8_t *to = value_at(out, row, tile.number * QUANT_BLOCK + 4 * i + threadIdx.x % 4 * 2);
                    *reinterpret_cast<char2 *>(to) =
                        make_char2(quantise(values[i], steps), quantise(values[i + 1], steps));
                }
                if (threadIdx.x % 4 == 0)
                    *scale_at(out, row, tile.number) = quant_scale(max_abs);
            }
    });
}

// Argmax over the 64 outputs of each tile, per row. Bit `id` of `masked` excludes an id.
template <int ROWS, int M_TILES>
__device__ __forceinline__ void gemm_argmax(Rows x, Weight w, const uint32_t *masked, const uint32_t *targets,
                                            Argmax *partial, float *target_logits) {
    int parts = w.outputs / GEMM_COLUMNS;
    gemm_tiles<ROWS, M_TILES>(x, w, [&](const OutputTile &tile, float (&totals)[M_TILES][GEMM_TILES][4]) {
        uint32_t mask[2] = {masked[2 * tile.number], masked[2 * tile.number + 1]};
#pragma unroll
        for (int m = 0; m < M_TILES; ++m)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                int row = row_of<M_TILES>(tile, m, 2 * half);
                uint32_t target = targets && row < x.count ? targets[row] - tile.output : ALL_LANES;
                float first = -INFINITY, second = -INFINITY;
                uint32_t id = ALL_LANES;
#pragma unroll
                for (int i = 0; i < 2 * GEMM_TILES; ++i) {
                    // Ids ascend, so that equal logits keep the smallest.
                    int column = i / 2 * 8 + threadIdx.x % 4 * 2 + i % 2;
                    float logit = totals[m][i / 2][2 * half + i % 2];
                    if (mask[column / 32] >> column % 32 & 1)
                        logit = -INFINITY;
                    if (column == target)
                        target_logits[row] = logit;
                    bool better = logit > first;
                    second = fmaxf(second, better ? first : logit);
                    id = better ? tile.output + column : id;
                    first = better ? logit : first;
                }
#pragma unroll
                for (int offset = 1; offset <= 2; offset *= 2) {
                    float other_first = __shfl_xor_sync(ALL_LANES, first, offset);
                    uint32_t other_id = __shfl_xor_sync(ALL_LANES, id, offset);
                    merge_argmax(first, id, second, other_first, other_id, __shfl_xor_sync(ALL_LANES, second, offset));
                }
                if (threadIdx.x % 4 == 0 && row < x.count)
                    partial[size_t(row) * parts + tile.number] = {id, first, second, 0.0f};
            }
    });
}

} // namespace

#define GEMM_KERNELS(SUFFIX, ROWS, M_TILES)                                                                            \
    extern "C" __global__ void __launch_bounds__(ROWS / (16 * M_TILES) * WARP, ROWS == 128 ? 2 : 6)                    \
        int8_gemm_##SUFFIX(Rows x, Weight w, float *out) {                                                             \
        await_earlier_kernels();                                                                                       \
        gemm<ROWS, M_TILES, false>(x, w, out);                                                                         \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(ROWS / (16 * M_TILES) * WARP, ROWS == 128 ? 2 : 6)                    \
        int8_gemm_add_##SUFFIX(Rows x, Weight w, float *out) {                                                         \
        await_earlier_kernels();                                                                                       \
        gemm<ROWS, M_TILES, true>(x, w, out);                                                                          \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(ROWS / (16 * M_TILES) * WARP, ROWS == 128 ? 2 : 6)                    \
        int8_gemm_swiglu_##SUFFIX(Rows x, Weight w, Rows out) {                                                        \
        await_earlier_kernels();                                                                                       \
        gemm_swiglu<ROWS, M_TILES>(x, w, out);                                                                         \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(ROWS / (16 * M_TILES) * WARP, ROWS == 128 ? 2 : 6)                    \
        int8_gemm_argmax_##SUFFIX(Rows x, Weight w, const uint32_t *masked, const uint32_t *targets, Argmax *partial,  \
                                  float *target_logits) {                                                              \
        await_earlier_kernels();                                                                                       \
        gemm_argmax<ROWS, M_TILES>(x, w, masked, targets, partial, target_logits);                                     \
    }

// Many rows, and few: a small tile gives every multiprocessor work when one window is decoded.
GEMM_KERNELS(large, 128, 1)
GEMM_KERNELS(small, 32, 1)
