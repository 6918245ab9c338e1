// Attention and KV cache of c3-int8-2.

#include "int8.cuh"

namespace {

// Keys and values of one key head in one layer of a sequence. Causal rows first, then text slots.
struct HeadKv {
    int8_t *causal_keys;   // [row][DIM]
    float *causal_scales;  // [row][DIM / 32]
    int8_t *causal_values; // [DIM][row]
    float *value_scales;   // [row]
    int8_t *slot_keys;     // [slot][DIM]
    float *slot_scales;    // [slot][DIM / 32]
    __half *slot_values;   // [slot][DIM]
};

constexpr int CAUSAL_BYTES = DIM + 4 * DIM_BLOCKS + DIM + 4;
constexpr int SLOT_BYTES = DIM + 4 * DIM_BLOCKS + 2 * DIM;

__device__ __forceinline__ HeadKv head_kv(const Sequence &sequence, int layer, int heads, int head) {
    size_t causal = sequence.causal_capacity, slots = sequence.slot_capacity;
    unsigned char *at = sequence.kv + (size_t(layer) * heads + head) * (causal * CAUSAL_BYTES + slots * SLOT_BYTES);
    HeadKv kv;
    kv.causal_keys = reinterpret_cast<int8_t *>(at);
    kv.causal_scales = reinterpret_cast<float *>(at += causal * DIM);
    kv.causal_values = reinterpret_cast<int8_t *>(at += causal * 4 * DIM_BLOCKS);
    kv.value_scales = reinterpret_cast<float *>(at += causal * DIM);
    kv.slot_keys = reinterpret_cast<int8_t *>(at += causal * 4);
    kv.slot_scales = reinterpret_cast<float *>(at += slots * DIM);
    kv.slot_values = reinterpret_cast<__half *>(at += slots * 4 * DIM_BLOCKS);
    return kv;
}

__device__ __forceinline__ int dot_32(const int (&a)[8], const int4 &low, const int4 &high) {
    int sum = __dp4a(a[0], low.x, 0);
    sum = __dp4a(a[1], low.y, sum);
    sum = __dp4a(a[2], low.z, sum);
    sum = __dp4a(a[3], low.w, sum);
    sum = __dp4a(a[4], high.x, sum);
    sum = __dp4a(a[5], high.y, sum);
    sum = __dp4a(a[6], high.z, sum);
    return __dp4a(a[7], high.w, sum);
}

// A quantised key of one head, one per lane.
struct Key {
    int4 words[2 * DIM_BLOCKS];
    float scales[DIM_BLOCKS];

    __device__ __forceinline__ Key(const int8_t *from, const float *from_scales) {
#pragma unroll
        for (int i = 0; i < 2 * DIM_BLOCKS; ++i)
            words[i] = reinterpret_cast<const int4 *>(from)[i];
#pragma unroll
        for (int block = 0; block < DIM_BLOCKS; ++block)
            scales[block] = from_scales[block];
    }
};

// The quantised query of one head: the same in all lanes.
struct Query {
    int values[DIM_BLOCKS][8];
    float scales[DIM_BLOCKS];

    __device__ __forceinline__ void load(const int8_t *from, const float *from_scales) {
        const int4 *words = reinterpret_cast<const int4 *>(from);
#pragma unroll
        for (int block = 0; block < DIM_BLOCKS; ++block) {
            int4 low = words[2 * block], high = words[2 * block + 1];
            int all[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
            for (int i = 0; i < 8; ++i)
                values[block][i] = all[i];
            scales[block] = from_scales[block];
        }
    }

    __device__ __forceinline__ float score(const Key &key) const {
        float total = 0.0f;
#pragma unroll
        for (int block = 0; block < DIM_BLOCKS; ++block) {
            int sum = dot_32(values[block], key.words[2 * block], key.words[2 * block + 1]);
            total = __fmaf_rn(__int2float_rn(sum), __fmul_rn(key.scales[block], scales[block]), total);
        }
        return total;
    }
};

// Softmax weights of 32 causal rows, one per lane: quantises `e` times the value's scale. Returns the scale of the
// weights. Adds `e` to `sum` in lanes 0 to 15, each of which sums every 16th row.
__device__ __forceinline__ float causal_weights(float e, float value_scale, float &sum, int8_t *weight) {
    float upper = __shfl_down_sync(ALL_LANES, e, 16);
    sum = __fadd_rn(__fadd_rn(sum, e), upper);
    float weighted = __fmul_rn(e, value_scale);
    float max_abs = warp_max_positive(weighted);
    *weight = quantise(weighted, quant_steps(max_abs));
    return quant_scale(max_abs);
}

// Writes the 64 outputs of an attention head as the input of the next GEMM.
__device__ __forceinline__ void write_head(float a, float b, const Rows &out, int row, int head) {
    int lane = threadIdx.x % WARP, column = head * DIM + lane;
    write_quantised(a, b, value_at(out, row, column), value_at(out, row, column + 32), scale_at(out, row, 2 * head),
                    scale_at(out, row, 2 * head + 1));
}

} // namespace

// Rotates queries and keys, quantises them, and appends keys and values to the KV caches. One warp per row.
// `qkv` is [row][query heads + 2 * key heads][DIM], `rotary` is [position][cos, sin][DIM / 2].
extern "C" __global__ void int8_append(const Row *rows, const Sequence *sequences, const float *__restrict__ qkv,
                                       const float *__restrict__ rotary, int layer, int heads, int key_heads, int count,
                                       int8_t *__restrict__ queries, float *__restrict__ query_scales) {
    await_earlier_kernels();
    int number = (blockIdx.x * blockDim.x + threadIdx.x) / WARP, lane = threadIdx.x % WARP;
    if (number >= count)
        return;
    Row row = rows[number];
    const Sequence sequence = sequences[row.sequence];
    float cosine = rotary[size_t(row.position) * DIM + lane], sine = rotary[size_t(row.position) * DIM + 32 + lane];
    bool slot = row.place >= sequence.prompt;
    size_t place = slot ? row.place - sequence.prompt : row.place;
    const float *x = qkv + size_t(number) * (heads + 2 * key_heads) * DIM + lane;
    auto rotate = [&](float &a, float &b) {
        float rotated = __fmaf_rn(-b, sine, __fmul_rn(a, cosine));
        b = __fmaf_rn(b, cosine, __fmul_rn(a, sine));
        a = rotated;
    };
    float scale = __fdiv_rn(1.0f, __fsqrt_rn(static_cast<float>(DIM)));
#pragma unroll 3
    for (int head = 0; head < heads; ++head) {
        float a = x[head * DIM], b = x[head * DIM + 32];
        rotate(a, b);
        size_t at = size_t(number) * heads + head;
        int8_t *to = queries + at * DIM + lane;
        float *to_scales = query_scales + at * DIM_BLOCKS;
        write_quantised(__fmul_rn(a, scale), __fmul_rn(b, scale), to, to + 32, to_scales, to_scales + 1);
    }
#pragma unroll 3
    for (int head = 0; head < key_heads; ++head) {
        HeadKv kv = head_kv(sequence, layer, key_heads, head);
        float a = x[(heads + head) * DIM], b = x[(heads + head) * DIM + 32];
        rotate(a, b);
        float max_a = warp_max_positive(fabsf(a)), max_b = warp_max_positive(fabsf(b));
        int8_t *keys = (slot ? kv.slot_keys : kv.causal_keys) + place * DIM;
        keys[lane] = quantise(a, quant_steps(max_a));
        keys[32 + lane] = quantise(b, quant_steps(max_b));
        if (lane < DIM_BLOCKS) {
            float key_scale = quant_scale(lane == 0 ? max_a : max_b);
            // Causal keys are stored like weights, whose scales have half precision.
            float *scales = slot ? kv.slot_scales : kv.causal_scales;
            scales[place * DIM_BLOCKS + lane] = slot ? key_scale : __half2float(__float2half_rn(key_scale));
        }
        a = x[(heads + key_heads + head) * DIM];
        b = x[(heads + key_heads + head) * DIM + 32];
        if (slot) {
            kv.slot_values[place * DIM + lane] = __float2half_rn(a);
            kv.slot_values[place * DIM + 32 + lane] = __float2half_rn(b);
            continue;
        }
        float max_abs = warp_max_positive(fmaxf(fabsf(a), fabsf(b))), steps = quant_steps(max_abs);
        kv.causal_values[size_t(lane) * sequence.causal_capacity + place] = quantise(a, steps);
        kv.causal_values[size_t(32 + lane) * sequence.causal_capacity + place] = quantise(b, steps);
        if (lane == 0)
            kv.value_scales[place] = quant_scale(max_abs);
    }
}

// Floats of shared memory that a warp of attention needs for `rows` causal rows: scores, int8 weights, their scales.
// `rows` is a multiple of 32. A multiple of four floats keeps the weights of every warp aligned.
__device__ __forceinline__ int causal_floats(int rows) { return rows + rows / 4 + (rows / QUANT_BLOCK + 3) / 4 * 4; }

// Attention of rows that attend to all earlier rows. One warp per row and query head. Shared memory:
// `causal_floats(visible_max)` per warp.
extern "C" __global__ void int8_attend_causal(const Row *rows, const Sequence *sequences, const uint32_t *select,
                                              int count, int layer, int heads, int key_heads, int visible_max,
                                              const int8_t *queries, const float *query_scales, Rows out) {
    await_earlier_kernels();
    unsigned char *shared = dynamic_shared();
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    int item = blockIdx.x * (blockDim.x / WARP) + warp;
    if (item >= count * heads)
        return;
    float *scores = reinterpret_cast<float *>(shared) + size_t(warp) * causal_floats(visible_max);
    int8_t *weights = reinterpret_cast<int8_t *>(scores + visible_max);
    float *weight_scales = reinterpret_cast<float *>(weights + visible_max);
    uint32_t number = select[item / heads];
    int head = item % heads;
    Row row = rows[number];
    const Sequence sequence = sequences[row.sequence];
    HeadKv kv = head_kv(sequence, layer, key_heads, head / (heads / key_heads));
    size_t at = size_t(number) * heads + head;
    Query query;
    query.load(queries + at * DIM, query_scales + at * DIM_BLOCKS);
    int visible = row.place + 1, blocks = (visible + QUANT_BLOCK - 1) / QUANT_BLOCK;
    float max_score = -INFINITY;
    for (int key = lane; key < visible; key += WARP) {
        float score = query.score(Key(kv.causal_keys + size_t(key) * DIM, kv.causal_scales + size_t(key) * DIM_BLOCKS));
        scores[key] = score;
        max_score = fmaxf(max_score, score);
    }
    max_score = warp_max(max_score);
    float sum = 0.0f;
    for (int block = 0; block < blocks; ++block) {
        int key = block * QUANT_BLOCK + lane;
        bool valid = key < visible;
        float e = valid ? exp_negative(__fadd_rn(scores[key], -max_score)) : 0.0f;
        float scale = causal_weights(e, valid ? kv.value_scales[key] : 0.0f, sum, &weights[key]);
        if (lane == 0)
            weight_scales[block] = scale;
    }
    sum = __shfl_sync(ALL_LANES, sum_16_lanes(sum), 0);
    __syncwarp();
    float mixed[2] = {0.0f, 0.0f};
    for (int block = 0; block < blocks; ++block) {
        const int4 *words = reinterpret_cast<const int4 *>(weights + block * QUANT_BLOCK);
        int4 low = words[0], high = words[1];
        int all[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int4 *values = reinterpret_cast<const int4 *>(
                kv.causal_values + size_t(32 * i + lane) * sequence.causal_capacity + block * QUANT_BLOCK);
            mixed[i] = __fmaf_rn(__int2float_rn(dot_32(all, values[0], values[1])), weight_scales[block], mixed[i]);
        }
    }
    write_head(divide(__fadd_rn(0.0f, mixed[0]), sum), divide(__fadd_rn(0.0f, mixed[1]), sum), out, number, head);
}

// Attention of text slots, which attend to the whole prompt and to the earlier slots of their block. A thread block
// computes the rows of a tile for one key head. It copies the prompt's keys and values to shared memory once. A warp
// computes the GROUP query heads that share a key head together, so that it reads each key and value once for all.
template <int GROUP>
__device__ __forceinline__ void attend_slots(const Row *rows, const Sequence *sequences, const Tile *tiles, int layer,
                                             int heads, int key_heads, int prompt_max, int block_max,
                                             const int8_t *queries, const float *query_scales, Rows out) {
    unsigned char *shared = dynamic_shared();
    // Rows of 16 more bytes than needed spread the lanes of a warp over all banks.
    constexpr int KEY_PITCH = DIM + 16;
    int value_pitch = prompt_max + 16;
    int8_t *keys = reinterpret_cast<int8_t *>(shared);
    int8_t *values = keys + prompt_max * KEY_PITCH;
    float *key_scales = reinterpret_cast<float *>(values + DIM * value_pitch);
    float *value_scales = key_scales + prompt_max * DIM_BLOCKS;
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    int head_floats = causal_floats(prompt_max) + (block_max + 3) / 4 * 4;
    float *scores[GROUP], *weight_scales[GROUP], *slot_scores[GROUP];
    int8_t *weights[GROUP];
#pragma unroll
    for (int g = 0; g < GROUP; ++g) {
        scores[g] = value_scales + prompt_max + (warp * GROUP + g) * head_floats;
        weights[g] = reinterpret_cast<int8_t *>(scores[g] + prompt_max);
        weight_scales[g] = reinterpret_cast<float *>(weights[g] + prompt_max);
        slot_scores[g] = scores[g] + causal_floats(prompt_max);
    }

    const Tile tile = tiles[blockIdx.x];
    const Sequence sequence = sequences[tile.sequence];
    int first_head = blockIdx.y * GROUP, key_head = first_head / (heads / key_heads);
    HeadKv kv = head_kv(sequence, layer, key_heads, key_head);
    int prompt = sequence.prompt, blocks = (prompt + QUANT_BLOCK - 1) / QUANT_BLOCK;
    for (int i = threadIdx.x; i < prompt * (DIM / 16); i += blockDim.x)
        copy_async_16(keys + i / 4 * KEY_PITCH + i % 4 * 16, kv.causal_keys + size_t(i) * 16);
    int columns = blocks * 2;
    for (int i = threadIdx.x; i < DIM * columns; i += blockDim.x)
        copy_async_16(values + i / columns * value_pitch + i % columns * 16,
                      kv.causal_values + size_t(i / columns) * sequence.causal_capacity + i % columns * 16);
    copy_async_commit();
    for (int i = threadIdx.x; i < prompt * DIM_BLOCKS; i += blockDim.x)
        key_scales[i] = kv.causal_scales[i];
    for (int i = threadIdx.x; i < prompt; i += blockDim.x)
        value_scales[i] = kv.value_scales[i];
    copy_async_wait<0>();
    __syncthreads();

    for (int item = warp; item < int(tile.count); item += warps) {
        int number = tile.first + item, slot = rows[number].place - prompt;
        int first = slot / int(sequence.block) * int(sequence.block), own = slot - first + 1;
        size_t at = size_t(number) * heads + first_head;
        float max_score[GROUP], sum[GROUP];
        {
            Query query[GROUP];
#pragma unroll
            for (int g = 0; g < GROUP; ++g) {
                query[g].load(queries + (at + g) * DIM, query_scales + (at + g) * DIM_BLOCKS);
                max_score[g] = -INFINITY;
                sum[g] = 0.0f;
            }
            for (int key = lane; key < prompt; key += WARP) {
                Key loaded(keys + key * KEY_PITCH, key_scales + key * DIM_BLOCKS);
#pragma unroll
                for (int g = 0; g < GROUP; ++g) {
                    scores[g][key] = query[g].score(loaded);
                    max_score[g] = fmaxf(max_score[g], scores[g][key]);
                }
            }
            for (int key = lane; key < own; key += WARP) {
                Key loaded(kv.slot_keys + size_t(first + key) * DIM, kv.slot_scales + size_t(first + key) * DIM_BLOCKS);
#pragma unroll
                for (int g = 0; g < GROUP; ++g) {
                    slot_scores[g][key] = query[g].score(loaded);
                    max_score[g] = fmaxf(max_score[g], slot_scores[g][key]);
                }
            }
        }
#pragma unroll
        for (int g = 0; g < GROUP; ++g)
            max_score[g] = warp_max(max_score[g]);
        for (int block = 0; block < blocks; ++block) {
            int key = block * QUANT_BLOCK + lane;
            bool valid = key < prompt;
            float value_scale = valid ? value_scales[key] : 0.0f;
#pragma unroll
            for (int g = 0; g < GROUP; ++g) {
                float e = valid ? exp_negative(__fadd_rn(scores[g][key], -max_score[g])) : 0.0f;
                float scale = causal_weights(e, value_scale, sum[g], &weights[g][key]);
                if (lane == 0)
                    weight_scales[g][block] = scale;
            }
        }
        for (int key = lane; key < own; key += WARP)
#pragma unroll
            for (int g = 0; g < GROUP; ++g)
                slot_scores[g][key] = exp_negative(fminf(__fadd_rn(slot_scores[g][key], -max_score[g]), 0.0f));
        float mixed[GROUP][2] = {}, own_mixed[GROUP][2] = {};
#pragma unroll
        for (int g = 0; g < GROUP; ++g)
            sum[g] = __shfl_sync(ALL_LANES, sum_16_lanes(sum[g]), 0);
        __syncwarp();
        const __half *slot_values = kv.slot_values + size_t(first) * DIM + lane;
#pragma unroll 4
        for (int key = 0; key < own; ++key) {
            float low = __half2float(slot_values[size_t(key) * DIM]);
            float high = __half2float(slot_values[size_t(key) * DIM + 32]);
#pragma unroll
            for (int g = 0; g < GROUP; ++g) {
                float weight = slot_scores[g][key];
                sum[g] = __fadd_rn(sum[g], weight);
                own_mixed[g][0] = __fmaf_rn(weight, low, own_mixed[g][0]);
                own_mixed[g][1] = __fmaf_rn(weight, high, own_mixed[g][1]);
            }
        }
        for (int block = 0; block < blocks; ++block) {
            int4 value[2][2];
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int4 *from =
                    reinterpret_cast<const int4 *>(values + (32 * i + lane) * value_pitch + block * QUANT_BLOCK);
                value[i][0] = from[0];
                value[i][1] = from[1];
            }
#pragma unroll
            for (int g = 0; g < GROUP; ++g) {
                const int4 *words = reinterpret_cast<const int4 *>(weights[g] + block * QUANT_BLOCK);
                int4 low = words[0], high = words[1];
                int all[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
                for (int i = 0; i < 2; ++i)
                    mixed[g][i] = __fmaf_rn(__int2float_rn(dot_32(all, value[i][0], value[i][1])),
                                            weight_scales[g][block], mixed[g][i]);
            }
        }
#pragma unroll
        for (int g = 0; g < GROUP; ++g)
            write_head(divide(__fadd_rn(own_mixed[g][0], mixed[g][0]), sum[g]),
                       divide(__fadd_rn(own_mixed[g][1], mixed[g][1]), sum[g]), out, number, first_head + g);
        __syncwarp();
    }
}

// One warp per row and group of three query heads, or per row and query head.
#define ATTEND_SLOTS(NAME, GROUP)                                                                                      \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        NAME(const Row *rows, const Sequence *sequences, const Tile *tiles, int layer, int heads, int key_heads,       \
             int prompt_max, int block_max, const int8_t *queries, const float *query_scales, Rows out) {              \
        await_earlier_kernels();                                                                                       \
        attend_slots<GROUP>(rows, sequences, tiles, layer, heads, key_heads, prompt_max, block_max, queries,           \
                            query_scales, out);                                                                        \
    }

ATTEND_SLOTS(int8_attend_slots, 1)
ATTEND_SLOTS(int8_attend_slots_3, 3)

// Copies the first causal rows of KV caches. The grid is [layer and key head][fork].
extern "C" __global__ void int8_copy_causal(const Fork *forks, int key_heads) {
    await_earlier_kernels();
    const Fork fork = forks[blockIdx.y];
    int layer = blockIdx.x / key_heads, head = blockIdx.x % key_heads, count = fork.rows;
    HeadKv from = head_kv(fork.from, layer, key_heads, head), to = head_kv(fork.to, layer, key_heads, head);
    for (int i = threadIdx.x; i < count * DIM / 16; i += blockDim.x)
        reinterpret_cast<int4 *>(to.causal_keys)[i] = reinterpret_cast<const int4 *>(from.causal_keys)[i];
    for (int i = threadIdx.x; i < DIM * count; i += blockDim.x)
        to.causal_values[size_t(i / count) * fork.to.causal_capacity + i % count] =
            from.causal_values[size_t(i / count) * fork.from.causal_capacity + i % count];
    for (int i = threadIdx.x; i < count * DIM_BLOCKS; i += blockDim.x)
        to.causal_scales[i] = from.causal_scales[i];
    for (int i = threadIdx.x; i < count; i += blockDim.x)
        to.value_scales[i] = from.value_scales[i];
}
