// The arithmetic between matrix products, on an NVIDIA device.
//
// Rows of tokens are packed: the tokens of all texts of a batch lie one after the other, and no kernel
// ever touches padding. Activations are T (float, half or bfloat16); biases, norms and all sums are float.
// The Rust side, ../cuda.rs, checks shapes and chooses grids; each kernel states what it expects.

#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace {

constexpr unsigned WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T> __device__ __forceinline__ T narrow(float x);
template <> __device__ __forceinline__ float narrow<float>(float x) { return x; }
template <> __device__ __forceinline__ __half narrow<__half>(float x) { return __float2half_rn(x); }
template <> __device__ __forceinline__ __nv_bfloat16 narrow<__nv_bfloat16>(float x) {
    return __float2bfloat16_rn(x);
}

// Four neighbors, read and written with one instruction.
template <typename T> struct alignas(4 * sizeof(T)) Four {
    T at[4];
};

template <typename T> __device__ __forceinline__ float4 load4(const T *from) {
    const Four<T> four = *reinterpret_cast<const Four<T> *>(from);
    return make_float4(widen(four.at[0]), widen(four.at[1]), widen(four.at[2]), widen(four.at[3]));
}

template <typename T> __device__ __forceinline__ void store4(T *to, float4 x) {
    Four<T> four;
    four.at[0] = narrow<T>(x.x);
    four.at[1] = narrow<T>(x.y);
    four.at[2] = narrow<T>(x.z);
    four.at[3] = narrow<T>(x.w);
    *reinterpret_cast<Four<T> *>(to) = four;
}

__device__ __forceinline__ float4 operator+(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

__device__ __forceinline__ float sum4(float4 x) { return (x.x + x.y) + (x.z + x.w); }

__device__ __forceinline__ float warp_sum(float x) {
    for (unsigned step = WARP / 2; step > 0; step /= 2) {
        x += __shfl_xor_sync(ALL_LANES, x, step);
    }
    return x;
}

// out[row] = table[index[row]]. One block per row.
template <typename T>
__device__ void take_rows(const T *table, const uint32_t *index, T *out, uint32_t width) {
    const T *from = table + size_t(index[blockIdx.x]) * width;
    T *to = out + size_t(blockIdx.x) * width;
    for (uint32_t column = threadIdx.x; column < width; column += blockDim.x) {
        to[column] = from[column];
    }
}

// x / 2 * (1 + erf(x / sqrt 2))
__device__ __forceinline__ float gelu(float x) {
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
}

// x = gelu(x + bias) in place. The grid's x is the row; width is a multiple of 4.
template <typename T> __device__ void bias_gelu(T *x, const float *bias, uint32_t width) {
    T *row = x + size_t(blockIdx.x) * width;
    for (uint32_t column = 4 * threadIdx.x; column < width; column += 4 * blockDim.x) {
        const float4 sum = load4(row + column) + load4(bias + column);
        store4(row + column, make_float4(gelu(sum.x), gelu(sum.y), gelu(sum.z), gelu(sum.w)));
    }
}

// x = norm(x + bias + residual) * scale + shift in place, one warp per row. parameters holds bias, scale
// and shift; width is a multiple of 4. The sum is made again in each of the three passes: rows are short
// enough to stay in the cache, and a sum kept as T would be rounded.
template <typename T>
__device__ void bias_residual_norm(
    T *x, const T *residual, const float *parameters, uint32_t width, uint32_t rows, float epsilon) {
    const uint32_t row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) {
        return;
    }
    T *values = x + size_t(row) * width;
    const T *others = residual + size_t(row) * width;
    const float *scale = parameters + width;
    const float *shift = scale + width;
    const auto at = [&](uint32_t column) {
        return load4(values + column) + load4(others + column) + load4(parameters + column);
    };
    float sum = 0.0f;
    for (uint32_t column = 4 * threadIdx.x; column < width; column += 4 * WARP) {
        sum += sum4(at(column));
    }
    const float mean = warp_sum(sum) / float(width);
    float squares = 0.0f;
    for (uint32_t column = 4 * threadIdx.x; column < width; column += 4 * WARP) {
        const float4 v = at(column);
        const float4 d = make_float4(v.x - mean, v.y - mean, v.z - mean, v.w - mean);
        squares += sum4(make_float4(d.x * d.x, d.y * d.y, d.z * d.z, d.w * d.w));
    }
    const float inverse = rsqrtf(warp_sum(squares) / float(width) + epsilon);
    // A lane writes only what it alone reads, so nothing that is still needed is overwritten.
    for (uint32_t column = 4 * threadIdx.x; column < width; column += 4 * WARP) {
        const float4 v = at(column), a = load4(scale + column), b = load4(shift + column);
        store4(values + column,
               make_float4((v.x - mean) * inverse * a.x + b.x, (v.y - mean) * inverse * a.y + b.y,
                           (v.z - mean) * inverse * a.z + b.z, (v.w - mean) * inverse * a.w + b.w));
    }
}

// Numbers of a head that one thread holds; wider heads are shared by PARTS neighboring threads.
constexpr unsigned PART = 32;
// A part in shared memory, with room that puts the parts of a head into different banks.
constexpr unsigned PART_ROOM = PART + 4;
// Queries of a block, and keys that are in shared memory at a time. cuda.rs cuts texts by the first.
constexpr unsigned QUERIES = 32;
constexpr unsigned KEYS = 32;
// Keys whose scores are made before the running maximum is corrected once for all of them.
constexpr unsigned STRIDE = 8;

// softmax(q k' / sqrt(width)) v for up to 32 queries of one text and one head, never holding all scores.
//
// qkv has one row per token with queries, keys and values side by side, hidden numbers each, without their
// bias. A tile is {first row of the text, its tokens, first query in it, 0}. The grid is (tiles, heads), a
// block QUERIES * PARTS threads; scale is log2(e) / sqrt(width), and width <= PART * PARTS.
template <typename T, unsigned PARTS>
__device__ void attention(const T *qkv, const float *bias, const uint4 *tiles, T *out, uint32_t hidden,
                          uint32_t width, float scale) {
    __shared__ __align__(16) float keys[KEYS][PARTS][PART_ROOM];
    __shared__ __align__(16) float values[KEYS][PARTS][PART_ROOM];
    const uint4 tile = tiles[blockIdx.x];
    const uint32_t first = tile.x, length = tile.y;
    const uint32_t query = tile.z + threadIdx.x / PARTS;
    const uint32_t part = threadIdx.x % PARTS;
    const uint32_t head = blockIdx.y * width;
    const size_t row_room = size_t(3) * hidden;
    // Threads beyond the text's end work on its last query, so that no shuffle misses them.
    const T *own = qkv + (first + min(query, length - 1)) * row_room + head;
    float q[PART], sum[PART];
#pragma unroll
    for (unsigned i = 0; i < PART; ++i) {
        const uint32_t column = part * PART + i;
        q[i] = column < width ? (widen(own[column]) + bias[head + column]) * scale : 0.0f;
        sum[i] = 0.0f;
    }
    float largest = -INFINITY, total = 0.0f;
    for (uint32_t begin = 0; begin < length; begin += KEYS) {
        const uint32_t count = min(KEYS, length - begin);
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < KEYS * PARTS * PART; i += blockDim.x) {
            const uint32_t key = i / (PARTS * PART), column = i % (PARTS * PART);
            float k = 0.0f, v = 0.0f;
            if (key < count && column < width) {
                const T *row = qkv + (first + begin + key) * row_room + hidden + head + column;
                k = widen(row[0]) + bias[hidden + head + column];
                v = widen(row[hidden]) + bias[2 * hidden + head + column];
            }
            keys[key][column / PART][column % PART] = k;
            values[key][column / PART][column % PART] = v;
        }
        __syncthreads();
        for (uint32_t key = 0; key < count; key += STRIDE) {
            float score[STRIDE];
            float highest = largest;
#pragma unroll
            for (unsigned j = 0; j < STRIDE; ++j) {
                float dot = 0.0f;
#pragma unroll
                for (unsigned i = 0; i < PART; i += 4) {
                    const float4 k = load4(&keys[key + j][part][i]);
                    dot += q[i] * k.x + q[i + 1] * k.y + q[i + 2] * k.z + q[i + 3] * k.w;
                }
#pragma unroll
                for (unsigned step = 1; step < PARTS; step *= 2) {
                    dot += __shfl_xor_sync(ALL_LANES, dot, step);
                }
                score[j] = key + j < count ? dot : -INFINITY;
                highest = fmaxf(highest, score[j]);
            }
            const float correction = exp2f(largest - highest);
            largest = highest;
            total *= correction;
#pragma unroll
            for (unsigned i = 0; i < PART; ++i) {
                sum[i] *= correction;
            }
#pragma unroll
            for (unsigned j = 0; j < STRIDE; ++j) {
                const float share = exp2f(score[j] - largest);
                total += share;
#pragma unroll
                for (unsigned i = 0; i < PART; i += 4) {
                    const float4 v = load4(&values[key + j][part][i]);
                    sum[i] += share * v.x;
                    sum[i + 1] += share * v.y;
                    sum[i + 2] += share * v.z;
                    sum[i + 3] += share * v.w;
                }
            }
        }
    }
    if (query >= length) {
        return;
    }
    const float inverse = 1.0f / total;
    T *to = out + size_t(first + query) * hidden + head;
#pragma unroll
    for (unsigned i = 0; i < PART; ++i) {
        const uint32_t column = part * PART + i;
        if (column < width) {
            to[column] = narrow<T>(sum[i] * inverse);
        }
    }
}

// out[i] = the mean of rows first .. first + count of x, for spans {first, count}. One block per span.
template <typename T>
__device__ void mean_rows(const T *x, const uint2 *spans, float *out, uint32_t width) {
    const uint2 span = spans[blockIdx.x];
    const float share = 1.0f / float(span.y);
    for (uint32_t column = threadIdx.x; column < width; column += blockDim.x) {
        const T *from = x + size_t(span.x) * width + column;
        float sum = 0.0f;
        for (uint32_t row = 0; row < span.y; ++row, from += width) {
            sum += widen(*from);
        }
        out[size_t(blockIdx.x) * width + column] = sum * share;
    }
}

} // namespace

#define ATTENTION(T, NAME, PARTS)                                                                          \
    extern "C" __global__ void __launch_bounds__(QUERIES *PARTS) attention_##NAME##_##PARTS(               \
        const T *qkv, const float *bias, const uint4 *tiles, T *out, uint32_t hidden, uint32_t width,      \
        float scale) {                                                                                     \
        attention<T, PARTS>(qkv, bias, tiles, out, hidden, width, scale);                                  \
    }

#define KERNELS(T, NAME)                                                                                   \
    extern "C" __global__ void take_rows_##NAME(const T *table, const uint32_t *index, T *out,             \
                                                uint32_t width) {                                          \
        take_rows<T>(table, index, out, width);                                                            \
    }                                                                                                      \
    extern "C" __global__ void bias_gelu_##NAME(T *x, const float *bias, uint32_t width) {                 \
        bias_gelu<T>(x, bias, width);                                                                      \
    }                                                                                                      \
    extern "C" __global__ void bias_residual_norm_##NAME(T *x, const T *residual, const float *parameters, \
                                                         uint32_t width, uint32_t rows, float epsilon) {   \
        bias_residual_norm<T>(x, residual, parameters, width, rows, epsilon);                              \
    }                                                                                                      \
    extern "C" __global__ void mean_rows_##NAME(const T *x, const uint2 *spans, float *out,                \
                                                uint32_t width) {                                          \
        mean_rows<T>(x, spans, out, width);                                                                \
    }                                                                                                      \
    ATTENTION(T, NAME, 1)                                                                                  \
    ATTENTION(T, NAME, 2)                                                                                  \
    ATTENTION(T, NAME, 4)

KERNELS(float, f32)
KERNELS(__half, f16)
KERNELS(__nv_bfloat16, bf16)
