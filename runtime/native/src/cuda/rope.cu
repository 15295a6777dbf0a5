// Rotary position embedding (pairs i, i + dim / 2) and the write into the paged cache: queries and keys are
// read and written once, keys and values written once more, into the cache.
#include "cuda_backend.h"
#include "packs.h"
#include "row_grid.h"

namespace internvl::cuda {
namespace {

template <typename T>
struct CacheRows {
  T *k, *v;
};

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
    const float* angles = cos_sin + int64_t{positions[blockIdx.x]} * dim + i;
    float cos[N], sin[N];
    LoadPack(angles, cos);
    LoadPack(angles + half, sin);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const float c = RoundedTo<T>(cos[j]), s = RoundedTo<T>(sin[j]), x = low[j], y = high[j];
      low[j] = __fadd_rn(RoundedTo<T>(__fmul_rn(x, c)), RoundedTo<T>(__fmul_rn(-y, s)));
      high[j] = __fadd_rn(RoundedTo<T>(__fmul_rn(y, c)), RoundedTo<T>(__fmul_rn(x, s)));
    }
    StorePack(low, low_at);
    StorePack(high, low_at + half);
    if (head < heads) return;
    cached = cache.k + slot * kv_width + int64_t{head - heads} * dim + i;
  }
  StorePack(low, cached);
  StorePack(high, cached + half);
}

}  // namespace

void CudaBackend::RopeAndStoreKv(const Tensor& qkv, const Tensor& positions, const Tensor& slots,
                                 const Tensor& cos_sin, const PagedCache& cache, const HeadShape& heads) {
  const int64_t half = heads.dim / 2;
  WithElement(qkv.dtype, [&]<typename T>(T*) {
    WithPacks(half, [&]<int N>(std::integral_constant<int, N>) {
      const RowGrid threads(qkv.rows(), (heads.heads + 2 * heads.kv_heads) * (half / N));
      if (threads.empty) return;
      Launch(RopeKernel<T, N>, threads.grid, threads.block, 0, stream_, qkv.as<T>(), positions.as<int32_t>(),
             slots.as<int32_t>(), cos_sin.as<float>(), CacheRows<T>{cache.k.as<T>(), cache.v.as<T>()},
             heads.heads, heads.kv_heads, heads.dim);
    });
  });
}

}  // namespace internvl::cuda
