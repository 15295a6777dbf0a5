// Rotary position embedding (pairs i, i + headDim/2) and the write into the paged cache.
#include <algorithm>
#include <cstring>

#include "../float8_rows.h"
#include "cpu_backend.h"
#include "parallel.h"
#include "row_math.h"

namespace internvl {
namespace {

/// A row [dim] as e4m3 and its scale.
template <typename T>
void StoreFloat8Row(const T* from, const Tensor& cache, int64_t row) {
  const int64_t dim = cache.cols();
  uint32_t largest = 0;
  for (int64_t i = 0; i < dim; ++i) largest = std::max(largest, MagnitudeBits(ToFloat(from[i])));
  const float scale = Float8RowScale(largest), inverse = 1.0f / scale;
  Float8* const to = cache.row<Float8>(row);
  for (int64_t i = 0; i < dim; ++i) to[i] = {ToFloat8(ToFloat(from[i]) * inverse)};
  cache.scales()[row] = scale;
}

/// Keys [kv heads * dim], then values, of one token.
template <typename T>
void Store(const T* keys, const PagedCache& cache, int64_t slot, const HeadShape& heads) {
  const T* const values = keys + heads.kv_width();
  if (cache.float8()) {
    for (int64_t h = 0; h < heads.kv_heads; ++h) {
      StoreFloat8Row(keys + h * heads.dim, cache.k, h * cache.slots + slot);
      StoreFloat8Row(values + h * heads.dim, cache.v, h * cache.slots + slot);
    }
    return;
  }
  const auto bytes = static_cast<size_t>(heads.kv_width()) * sizeof(T);
  std::memcpy(cache.k.row<T>(slot), keys, bytes);
  std::memcpy(cache.v.row<T>(slot), values, bytes);
}

}  // namespace

void CpuBackend::RopeAndStoreKv(const Tensor& qkv, const Tensor& positions, const Tensor& slots,
                                const Tensor& cos_sin, const PagedCache& cache, const HeadShape& heads) {
  const int64_t dim = heads.dim;
  Scratch scratch(arena());
  float* buffers = scratch.Get<float>(MaxThreads() * dim);
  WithElement(qkv.dtype, [&]<typename T>(T*) {
    ParallelFor(qkv.rows(), qkv.elements(), [&](int64_t r, int thread) {
      float* angles = buffers + thread * dim;
      Widen(cos_sin.row<float>(positions.as<int32_t>()[r]), angles, dim);
      RoundRow<T>(angles, dim);
      T* row = qkv.row<T>(r);
      for (int64_t h = 0; h < heads.heads + heads.kv_heads; ++h) {
        T* const head = row + h * dim;
        RotateRows(head, head + dim / 2, angles, angles + dim / 2, dim / 2);
      }
      Store(row + heads.heads * dim, cache, slots.as<int32_t>()[r], heads);
    });
  });
}

}  // namespace internvl
