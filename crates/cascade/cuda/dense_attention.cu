// Attention with dense weights in f32, f16 or bf16.

#include "dense.cuh"

namespace {

// Keys and values of one key head in one layer: [2][place][dim].
template <typename T>
__device__ __forceinline__ T *head_kv(const Sequence &sequence, int layer, int heads, int head, int dim, bool values) {
    size_t capacity = sequence.causal_capacity + sequence.slot_capacity;
    return reinterpret_cast<T *>(sequence.kv) + ((size_t(layer) * heads + head) * 2 + values) * capacity * dim;
}

// Adds the bias to queries, keys and values, rotates queries and keys, and appends keys and values to the KV caches.
// A warp computes `per_warp` heads of a row. `qkv` is [row][head][dim]; queries are rotated in place. `rotary` is
// [position][cos, sin][dim / 2].
template <typename T>
__device__ void append(const Row *rows, const Sequence *sequences, T *qkv, const float *bias, const float *rotary,
                       int layer, int heads, int key_heads, int dim, int count, int per_warp) {
    int all = heads + 2 * key_heads, lane = threadIdx.x % WARP, half = dim / 2;
    int item = (blockIdx.x * blockDim.x + threadIdx.x) / WARP * per_warp;
    if (item >= count * all)
        return;
    int number = item / all, first = item % all;
    Row row = rows[number];
    const Sequence sequence = sequences[row.sequence];
    for (int i = lane; i < half; i += WARP) {
        float cosine = rotary[size_t(row.position) * dim + i], sine = rotary[size_t(row.position) * dim + half + i];
#pragma unroll 3
        for (int head = first; head < first + per_warp; ++head) {
            T *x = qkv + (size_t(number) * all + head) * dim, *to = x;
            bool is_value = head >= heads + key_heads;
            if (head >= heads) {
                int key_head = head - heads - (is_value ? key_heads : 0);
                to = head_kv<T>(sequence, layer, key_heads, key_head, dim, is_value) + size_t(row.place) * dim;
            }
            float a = to_float(x[i]), b = to_float(x[i + half]);
            if (bias) {
                a += bias[head * dim + i];
                b += bias[head * dim + i + half];
            }
            float c = is_value ? 1.0f : cosine, s = is_value ? 0.0f : sine;
            to[i] = from_float<T>(a * c - b * s);
            to[i + half] = from_float<T>(b * c + a * s);
        }
    }
}

// Chunk `column` of a head, with bias and rotated. `rotary` has the cosines and sines of the row's position. Rounds to
// T, as `append` does.
template <typename T>
__device__ __forceinline__ Chunk<T> rotated(const T *head, const float *bias, const float *rotary, int column,
                                            int dim) {
    int half = dim / 2, first = column % half, other = column < half ? column + half : first;
    Chunk<T> own = *reinterpret_cast<const Chunk<T> *>(head + column);
    Chunk<T> partner = *reinterpret_cast<const Chunk<T> *>(head + other);
#pragma unroll
    for (int i = 0; i < Chunk<T>::COUNT; ++i) {
        float a = to_float(own.values[i]) + (bias ? bias[column + i] : 0.0f);
        float b = to_float(partner.values[i]) + (bias ? bias[other + i] : 0.0f);
        float sine = rotary[half + first + i];
        own.values[i] = from_float<T>(a * rotary[first + i] + (column < half ? -b * sine : b * sine));
    }
    return own;
}

constexpr int ATTEND_THREADS = 384;
// Keys that a group of lanes loads at once.
constexpr int ATTEND_KEYS = 4;

// Attention of one row and query head per thread block, for every attention pattern. A head is at most 32 chunks wide.
// A group of lanes, with one chunk of the head each, takes ATTEND_KEYS keys at a time; the block combines the groups'
// results.
template <typename T>
__device__ void attend(const Row *rows, const Sequence *sequences, const uint32_t *select, int layer, int heads,
                       int key_heads, int dim, const T *qkv, const float *bias, const float *rotary, T *out) {
    constexpr int VALUES = Chunk<T>::COUNT;
    // Of each group: maximum score, sum of weights, weighted sum of values.
    __shared__ float maxima[ATTEND_THREADS], sums[ATTEND_THREADS], mixed[ATTEND_THREADS * VALUES];
    uint32_t number = select[blockIdx.x];
    int head = blockIdx.y, key_head = head / (heads / key_heads);
    Row row = rows[number];
    const Sequence sequence = sequences[row.sequence];
    // Lanes per group: a power of two.
    int lanes = 1 << (32 - __clz((dim - 1) / VALUES));
    int groups = ATTEND_THREADS / lanes, group = threadIdx.x / lanes, column = threadIdx.x % lanes * VALUES;
    bool active = column < dim;
    T *keys = head_kv<T>(sequence, layer, key_heads, key_head, dim, false) + column;
    T *values = head_kv<T>(sequence, layer, key_heads, key_head, dim, true) + column;
    const T *row_heads = qkv + size_t(number) * (heads + 2 * key_heads) * dim;
    if (rotary)
        rotary += size_t(row.position) * dim;
    auto bias_of = [&](int head) { return bias ? bias + head * dim : nullptr; };
    float query[VALUES] = {}, own[VALUES] = {};
    if (active) {
        const T *from = row_heads + head * dim;
        Chunk<T> chunk = rotary ? rotated(from, bias_of(head), rotary, column, dim)
                                : *reinterpret_cast<const Chunk<T> *>(from + column);
        float scale = rsqrtf(float(dim));
#pragma unroll
        for (int i = 0; i < VALUES; ++i)
            query[i] = to_float(chunk.values[i]) * scale;
    }
    // A slot attends to the prompt, then to its own block from `first` on.
    bool slot = row.place >= sequence.prompt;
    int shared_rows = slot ? sequence.prompt : row.place + 1;
    int first = slot ? row.place - (row.place - sequence.prompt) % sequence.block : 0;
    int visible = shared_rows + (slot ? row.place - first + 1 : 0);
    int cached = rotary ? visible - 1 : visible;
    float max_score = -INFINITY, sum = 0.0f;
    unsigned mask = lanes == WARP ? ALL_LANES : ((1u << lanes) - 1) << (threadIdx.x % WARP / lanes * lanes);
    auto score_of = [&](const Chunk<T> &key) {
        float score = 0.0f;
#pragma unroll
        for (int i = 0; i < VALUES; ++i)
            score += query[i] * to_float(key.values[i]);
        for (int offset = lanes / 2; offset > 0; offset /= 2)
            score += __shfl_xor_sync(mask, score, offset);
        return score;
    };
    auto raise_maximum = [&](float larger) {
        float shrink = __expf(max_score - larger);
        max_score = larger;
        sum *= shrink;
#pragma unroll
        for (int i = 0; i < VALUES; ++i)
            own[i] *= shrink;
    };
    auto add = [&](float score, const Chunk<T> &value) {
        float weight = __expf(score - max_score);
        sum += weight;
#pragma unroll
        for (int i = 0; i < VALUES; ++i)
            own[i] += weight * to_float(value.values[i]);
    };
    for (int start = group * ATTEND_KEYS; start < cached; start += groups * ATTEND_KEYS) {
        Chunk<T> key[ATTEND_KEYS], value[ATTEND_KEYS];
        float scores[ATTEND_KEYS], larger = max_score;
#pragma unroll
        for (int k = 0; k < ATTEND_KEYS; ++k) {
            // Keys from `cached` on repeat the last key. They get no weight.
            int index = min(start + k, cached - 1);
            size_t place = index < shared_rows ? index : first + index - shared_rows;
            key[k] = active ? *reinterpret_cast<const Chunk<T> *>(keys + place * dim) : Chunk<T>{};
            value[k] = active ? *reinterpret_cast<const Chunk<T> *>(values + place * dim) : Chunk<T>{};
        }
#pragma unroll
        for (int k = 0; k < ATTEND_KEYS; ++k) {
            scores[k] = score_of(key[k]);
            if (start + k >= cached)
                scores[k] = -INFINITY;
            larger = fmaxf(larger, scores[k]);
        }
        raise_maximum(larger);
#pragma unroll
        for (int k = 0; k < ATTEND_KEYS; ++k)
            add(scores[k], value[k]);
    }
    // The last group, which has the fewest cached keys, adds the row's own.
    if (rotary && group == groups - 1) {
        Chunk<T> key = {}, value = {};
        if (active) {
            key = rotated(row_heads + (heads + key_head) * dim, bias_of(heads + key_head), rotary, column, dim);
            int value_head = heads + key_heads + key_head;
            value = *reinterpret_cast<const Chunk<T> *>(row_heads + value_head * dim + column);
            if (bias)
#pragma unroll
                for (int i = 0; i < VALUES; ++i)
                    value.values[i] = from_float<T>(to_float(value.values[i]) + bias_of(value_head)[column + i]);
            // One of the query heads that share the key head stores it.
            if (head % (heads / key_heads) == 0) {
                *reinterpret_cast<Chunk<T> *>(keys + size_t(row.place) * dim) = key;
                *reinterpret_cast<Chunk<T> *>(values + size_t(row.place) * dim) = value;
            }
        }
        float score = score_of(key);
        raise_maximum(fmaxf(max_score, score));
        add(score, value);
    }
    if (column == 0) {
        maxima[group] = max_score;
        sums[group] = sum;
    }
#pragma unroll
    for (int i = 0; i < VALUES; ++i)
        mixed[threadIdx.x * VALUES + i] = own[i];
    __syncthreads();
    for (int g = 0; g < groups; ++g)
        max_score = fmaxf(max_score, maxima[g]);
    for (int i = threadIdx.x; i < dim; i += blockDim.x) {
        float total = 0.0f, denominator = 0.0f;
        for (int g = 0; g < groups; ++g) {
            float shrink = __expf(maxima[g] - max_score);
            total += mixed[g * lanes * VALUES + i] * shrink;
            denominator += sums[g] * shrink;
        }
        out[(size_t(number) * heads + head) * dim + i] = from_float<T>(total / denominator);
    }
}

// Two floats as two values of T in one register.
__device__ __forceinline__ uint32_t pack(float a, float b, __half) {
    __half2 both = __floats2half2_rn(a, b);
    return *reinterpret_cast<uint32_t *>(&both);
}
__device__ __forceinline__ uint32_t pack(float a, float b, __nv_bfloat16) {
    __nv_bfloat162 both = __floats2bfloat162_rn(a, b);
    return *reinterpret_cast<uint32_t *>(&both);
}

// Tensor-core product of 16 x 16 and 16 x 8 values, added to `c`.
__device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, __half) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                         __nv_bfloat16) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], const void *shared) {
    unsigned from = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from));
}

constexpr int FLASH_KEYS = 64;

// Flash attention (arXiv 2307.08691) of up to 64 consecutive causal rows and one query head per thread block of four
// warps. A warp owns 16 rows. Keys and values pass through shared memory in tiles of 64.
template <typename T, int DIM>
__device__ void flash(const Row *rows, const Sequence *sequences, const Tile *tiles, int layer, int heads,
                      int key_heads, const T *qkv, T *out) {
    constexpr int CHUNKS = DIM / 8; // of 16 bytes in a row
    T *shared = reinterpret_cast<T *>(dynamic_shared());
    auto key_tile = [&](int stage) { return shared + stage * 2 * FLASH_KEYS * DIM; };
    auto value_tile = [&](int stage) { return key_tile(stage) + FLASH_KEYS * DIM; };
    // The chunks of a row are permuted, so that eight rows of a matrix lie in different banks.
    auto place_of = [](T *tile, int row, int chunk) { return tile + row * DIM + (chunk ^ (row & 7)) * 8; };

    const Tile tile = tiles[blockIdx.x];
    const Sequence sequence = sequences[tile.sequence];
    int head = blockIdx.y, key_head = head / (heads / key_heads);
    const T *keys = head_kv<T>(sequence, layer, key_heads, key_head, DIM, false);
    const T *values = head_kv<T>(sequence, layer, key_heads, key_head, DIM, true);
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    int first_place = rows[tile.first].place, last_place = first_place + tile.count - 1;
    int key_tiles = last_place / FLASH_KEYS + 1;
    auto copy = [&](int number) {
        for (int i = threadIdx.x; i < FLASH_KEYS * CHUNKS; i += blockDim.x) {
            int row = i / CHUNKS, chunk = i % CHUNKS;
            size_t from = size_t(min(number * FLASH_KEYS + row, last_place)) * DIM + chunk * 8;
            copy_async_16(place_of(key_tile(number % 2), row, chunk), keys + from);
            copy_async_16(place_of(value_tile(number % 2), row, chunk), values + from);
        }
        copy_async_commit();
    };
    copy(0);

    // Rows of this lane, clamped to the tile, and their queries as operands of the matrix instructions.
    int own[2];
    uint32_t query[DIM / 16][4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        own[half] = warp * 16 + lane / 4 + 8 * half;
        size_t number = tile.first + min(own[half], int(tile.count) - 1);
        const T *q = qkv + (number * (heads + 2 * key_heads) + head) * DIM + lane % 4 * 2;
#pragma unroll
        for (int k = 0; k < DIM / 16; ++k) {
            query[k][half] = *reinterpret_cast<const uint32_t *>(q + 16 * k);
            query[k][half + 2] = *reinterpret_cast<const uint32_t *>(q + 16 * k + 8);
        }
    }
    float scale = rsqrtf(float(DIM)) * 1.44269504f; // for exp2
    float mixed[DIM / 8][4] = {}, max_score[2] = {-INFINITY, -INFINITY}, sum[2] = {0.0f, 0.0f};
    for (int number = 0; number < key_tiles; ++number) {
        copy_async_wait<0>();
        __syncthreads();
        if (number + 1 < key_tiles)
            copy(number + 1);
        float scores[FLASH_KEYS / 8][4] = {};
#pragma unroll
        for (int k = 0; k < DIM / 16; ++k)
#pragma unroll
            for (int n = 0; n < FLASH_KEYS / 16; ++n) {
                uint32_t b[4];
                int row = 16 * n + lane % 8 + lane / 16 * 8, chunk = 2 * k + lane / 8 % 2;
                load_matrices(b, place_of(key_tile(number % 2), row, chunk));
                multiply(scores[2 * n], query[k], b[0], b[1], T());
                multiply(scores[2 * n + 1], query[k], b[2], b[3], T());
            }
        bool diagonal = (number + 1) * FLASH_KEYS > first_place;
#pragma unroll
        for (int n = 0; n < FLASH_KEYS / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                int key = number * FLASH_KEYS + 8 * n + lane % 4 * 2 + i % 2;
                bool visible = !diagonal || key <= first_place + own[i / 2];
                scores[n][i] = visible ? scores[n][i] * scale : -INFINITY;
            }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float larger = max_score[half];
#pragma unroll
            for (int n = 0; n < FLASH_KEYS / 8; ++n)
                larger = fmaxf(larger, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
            larger = fmaxf(larger, __shfl_xor_sync(ALL_LANES, larger, 1));
            larger = fmaxf(larger, __shfl_xor_sync(ALL_LANES, larger, 2));
            float shrink = exp2f(max_score[half] - larger);
            max_score[half] = larger;
            sum[half] *= shrink;
#pragma unroll
            for (int d = 0; d < DIM / 8; ++d) {
                mixed[d][2 * half] *= shrink;
                mixed[d][2 * half + 1] *= shrink;
            }
#pragma unroll
            for (int n = 0; n < FLASH_KEYS / 8; ++n)
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; ++i) {
                    scores[n][i] = exp2f(scores[n][i] - larger);
                    sum[half] += scores[n][i];
                }
        }
#pragma unroll
        for (int k = 0; k < FLASH_KEYS / 16; ++k) {
            uint32_t weights[4] = {pack(scores[2 * k][0], scores[2 * k][1], T()),
                                   pack(scores[2 * k][2], scores[2 * k][3], T()),
                                   pack(scores[2 * k + 1][0], scores[2 * k + 1][1], T()),
                                   pack(scores[2 * k + 1][2], scores[2 * k + 1][3], T())};
#pragma unroll
            for (int d = 0; d < DIM / 16; ++d) {
                uint32_t b[4];
                load_matrices_transposed(b, place_of(value_tile(number % 2), 16 * k + lane % 16, 2 * d + lane / 16));
                multiply(mixed[2 * d], weights, b[0], b[1], T());
                multiply(mixed[2 * d + 1], weights, b[2], b[3], T());
            }
        }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float total = sum[half];
        total += __shfl_xor_sync(ALL_LANES, total, 1);
        total += __shfl_xor_sync(ALL_LANES, total, 2);
        if (own[half] >= int(tile.count))
            continue;
        T *to = out + (size_t(tile.first + own[half]) * heads + head) * DIM + lane % 4 * 2;
#pragma unroll
        for (int d = 0; d < DIM / 8; ++d)
            *reinterpret_cast<uint32_t *>(to + 8 * d) =
                pack(mixed[d][2 * half] / total, mixed[d][2 * half + 1] / total, T());
    }
}

} // namespace

#define ATTENTION_KERNELS(SUFFIX, T)                                                                                   \
    extern "C" __global__ void dense_append_##SUFFIX(const Row *rows, const Sequence *sequences, T *qkv,               \
                                                     const float *bias, const float *rotary, int layer, int heads,     \
                                                     int key_heads, int dim, int count, int per_warp) {                \
        await_earlier_kernels();                                                                                       \
        append<T>(rows, sequences, qkv, bias, rotary, layer, heads, key_heads, dim, count, per_warp);                  \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(ATTEND_THREADS, 2) dense_attend_##SUFFIX(                             \
        const Row *rows, const Sequence *sequences, const uint32_t *select, int layer, int heads, int key_heads,       \
        int dim, const T *qkv, const float *bias, const float *rotary, T *out) {                                       \
        await_earlier_kernels();                                                                                       \
        attend<T>(rows, sequences, select, layer, heads, key_heads, dim, qkv, bias, rotary, out);                      \
    }

ATTENTION_KERNELS(f32, float)
ATTENTION_KERNELS(f16, __half)
ATTENTION_KERNELS(bf16, __nv_bfloat16)

#define FLASH_KERNEL(NAME, T, DIM)                                                                                     \
    extern "C" __global__ void __launch_bounds__(128)                                                                  \
        NAME(const Row *rows, const Sequence *sequences, const Tile *tiles, int layer, int heads, int key_heads,       \
             const T *qkv, T *out) {                                                                                   \
        await_earlier_kernels();                                                                                       \
        flash<T, DIM>(rows, sequences, tiles, layer, heads, key_heads, qkv, out);                                      \
    }

FLASH_KERNEL(dense_flash_f16_64, __half, 64)
FLASH_KERNEL(dense_flash_f16_128, __half, 128)
FLASH_KERNEL(dense_flash_bf16_64, __nv_bfloat16, 64)
FLASH_KERNEL(dense_flash_bf16_128, __nv_bfloat16, 128)
