// Rotary position embedding (pairs i, i + headDim/2) and the write into the paged cache.
#include <cstring>

#include "cpu_backend.h"
#include "parallel.h"
#include "row_math.h"

namespace internvl {
namespace {

template <typename T>
void RotateHead(T* head, const float* cos, const float* sin, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float low = ToFloat(head[i]), high = ToFloat(head[i + half]);
    head[i] = FromFloat<T>(Rounded<T>(low * cos[i]) + Rounded<T>(-high * sin[i]));
    head[i + half] = FromFloat<T>(Rounded<T>(high * cos[i]) + Rounded<T>(low * sin[i]));
  }
}

}  // namespace

void CpuBackend::RopeAndStoreKv(const Tensor& qkv, const Tensor& positions, const Tensor& slots,
                                const Tensor& cos_sin, const PagedCache& cache, const HeadShape& heads) {
  const int64_t dim = heads.dim, kv_width = heads.kv_width();
  Scratch scratch(arena());
  float* buffers = scratch.Get<float>(MaxThreads() * dim);
  WithElement(qkv.dtype, [&]<typename T>(T*) {
    ParallelFor(qkv.rows(), qkv.elements(), [&](int64_t r, int thread) {
      float* angles = buffers + thread * dim;
      Widen(cos_sin.row<float>(positions.as<int32_t>()[r]), angles, dim);
      RoundRow<T>(angles, dim);
      T* row = qkv.row<T>(r);
      for (int64_t h = 0; h < heads.heads + heads.kv_heads; ++h) {
        RotateHead(row + h * dim, angles, angles + dim / 2, dim / 2);
      }
      const T* k = row + heads.heads * dim;
      const int64_t slot = slots.as<int32_t>()[r];
      std::memcpy(cache.k.row<T>(slot), k, static_cast<size_t>(kv_width) * sizeof(T));
      std::memcpy(cache.v.row<T>(slot), k + kv_width, static_cast<size_t>(kv_width) * sizeof(T));
    });
  });
}

}  // namespace internvl
