// Rotary position embedding (pairs i, i + dim / 2) and the write into the paged cache: queries and keys are
// read and written once, keys and values written once more, into the cache.
#include <algorithm>
#include <bit>

#include "../float8_rows.h"
#include "cuda_backend.h"
#include "float8_pairs.h"
#include "packs.h"
#include "row_grid.h"

namespace internvl::cuda {
namespace {

template <typename T>
struct CacheRows {
  T *k, *v;
};

/// A pack of the lower half of a head and that of the upper half, by the pack of their angles, and `half`
/// further on.
template <typename T, int N>
__device__ void Rotate(const float* angles, int half, float (&low)[N], float (&high)[N]) {
  float cos[N], sin[N];
  LoadPack(angles, cos);
  LoadPack(angles + half, sin);
#pragma unroll
  for (int j = 0; j < N; ++j) {
    const float c = RoundedTo<T>(cos[j]), s = RoundedTo<T>(sin[j]), x = low[j], y = high[j];
    low[j] = __fadd_rn(RoundedTo<T>(__fmul_rn(x, c)), RoundedTo<T>(__fmul_rn(-y, s)));
    high[j] = __fadd_rn(RoundedTo<T>(__fmul_rn(y, c)), RoundedTo<T>(__fmul_rn(x, s)));
  }
}

/// blockIdx.x is the token. A thread has a pack of the lower half of a head and the pack dim / 2 further on.
template <typename T, int N>
__global__ void __launch_bounds__(RowGrid::kThreads)
    RopeKernel(T* qkv, const int32_t* positions, const int32_t* slots, const float* cos_sin,
               CacheRows<T> cache, int heads, int kv_heads, int dim) {
  const int half = dim / 2, packs = half / N;
  const int item = static_cast<int>(PackOfRow()), head = item / packs, i = item % packs * N;
  if (head >= heads + 2 * kv_heads) return;
  const int64_t kv_width = int64_t{kv_heads} * dim;
  const int64_t slot = slots[blockIdx.x];
  T* low_at = qkv + blockIdx.x * (int64_t{heads} * dim + 2 * kv_width) + int64_t{head} * dim + i;
  float low[N], high[N];
  LoadPack(low_at, low);
  LoadPack(low_at + half, high);
  T* cached = cache.v + slot * kv_width + int64_t{head - heads - kv_heads} * dim + i;
  if (head < heads + kv_heads) {
    Rotate<T>(cos_sin + int64_t{positions[blockIdx.x]} * dim + i, half, low, high);
    StorePack(low, low_at);
    StorePack(high, low_at + half);
    if (head < heads) return;
    cached = cache.k + slot * kv_width + int64_t{head - heads} * dim + i;
  }
  StorePack(low, cached);
  StorePack(high, cached + half);
}

/// One of the caches.
struct Float8Cache {
  Float8* codes;
  float* scales;
  explicit Float8Cache(const Tensor& cache) : codes(cache.as<Float8>()), scales(cache.scales()) {}
};

__device__ inline void StoreFloat8(const float (&from)[1], float factor, Float8* to) {
  to->bits = ToFloat8(from[0] * factor);
}
__device__ inline void StoreFloat8(const float (&from)[kPack], float factor, Float8* to) {
  uint32_t pairs[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) pairs[i] = PackFloat8(from[2 * i] * factor, from[2 * i + 1] * factor);
  *reinterpret_cast<uint2*>(to) = make_uint2(pairs[0] | pairs[1] << 16, pairs[2] | pairs[3] << 16);
}

/// The same into float8 caches. blockIdx.x is the token; `lanes` threads of a warp, a power of two of them,
/// have a head, each every lanes-th of its packs. What they write of keys and values follows when all know
/// the largest of them; then each reads again what it has just written, or read.
template <typename T, int N>
__global__ void __launch_bounds__(RowGrid::kThreads)
    RopeToFloat8Kernel(T* qkv, const int32_t* positions, const int32_t* slots, const float* cos_sin,
                       Float8Cache k, Float8Cache v, int64_t cache_slots, int heads, int kv_heads, int dim,
                       int lanes) {
  const int half = dim / 2;
  const int thread = static_cast<int>(PackOfRow()), head = thread / lanes, lane = thread % lanes;
  if (head >= heads + 2 * kv_heads) return;
  T* const row = qkv + (blockIdx.x * int64_t{heads + 2 * kv_heads} + head) * dim;
  uint32_t largest = 0;
  for (int i = lane * N; i < half; i += lanes * N) {
    float low[N], high[N];
    LoadPack(row + i, low);
    LoadPack(row + i + half, high);
    if (head < heads + kv_heads) {
      Rotate<T>(cos_sin + int64_t{positions[blockIdx.x]} * dim + i, half, low, high);
      StorePack(low, row + i);
      StorePack(high, row + i + half);
    }
#pragma unroll
    for (int j = 0; j < N; ++j) {
      largest = max(largest, MagnitudeBits(RoundedTo<T>(low[j])));
      largest = max(largest, MagnitudeBits(RoundedTo<T>(high[j])));
    }
  }
  if (head < heads) return;
  // The lanes of other heads may have ended.
  const unsigned mask = (0xffffffffu >> (32 - lanes)) << (threadIdx.x % 32 - lane);
  for (int step = lanes / 2; step > 0; step /= 2)
    largest = max(largest, __shfl_xor_sync(mask, largest, step));

  const Float8Cache& cache = head < heads + kv_heads ? k : v;
  const int64_t at = (head - heads) % kv_heads * cache_slots + slots[blockIdx.x];
  const float scale = Float8RowScale(largest), factor = 1.0f / scale;
  if (lane == 0) cache.scales[at] = scale;
  for (int i = lane * N; i < half; i += lanes * N) {
    float low[N], high[N];
    LoadPack(row + i, low);
    LoadPack(row + i + half, high);
    StoreFloat8(low, factor, cache.codes + at * dim + i);
    StoreFloat8(high, factor, cache.codes + at * dim + i + half);
  }
}

}  // namespace

void CudaBackend::RopeAndStoreKv(const Tensor& qkv, const Tensor& positions, const Tensor& slots,
                                 const Tensor& cos_sin, const PagedCache& cache, const HeadShape& heads) {
  const int64_t half = heads.dim / 2;
  WithElement(qkv.dtype, [&]<typename T>(T*) {
    WithPacks(half, [&]<int N>(std::integral_constant<int, N>) {
      if (cache.float8()) {
        const auto lanes =
            static_cast<int>(std::bit_ceil(static_cast<uint64_t>(std::min<int64_t>(half / N, 32))));
        const RowGrid threads(qkv.rows(), (heads.heads + 2 * heads.kv_heads) * lanes);
        if (threads.empty) return;
        Launch(RopeToFloat8Kernel<T, N>, threads.grid, threads.block, 0, stream_, qkv.as<T>(),
               positions.as<int32_t>(), slots.as<int32_t>(), cos_sin.as<float>(), Float8Cache(cache.k),
               Float8Cache(cache.v), cache.slots, heads.heads, heads.kv_heads, heads.dim, lanes);
        return;
      }
      const RowGrid threads(qkv.rows(), (heads.heads + 2 * heads.kv_heads) * (half / N));
      if (threads.empty) return;
      Launch(RopeKernel<T, N>, threads.grid, threads.block, 0, stream_, qkv.as<T>(), positions.as<int32_t>(),
             slots.as<int32_t>(), cos_sin.as<float>(), CacheRows<T>{cache.k.as<T>(), cache.v.as<T>()},
             heads.heads, heads.kv_heads, heads.dim);
    });
  });
}

}  // namespace internvl::cuda
