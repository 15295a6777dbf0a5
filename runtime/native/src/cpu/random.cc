#include "../seeded_uniform.h"
#include "cpu_backend.h"
#include "parallel.h"

namespace internvl {

void CpuBackend::FillRandom(const Tensor& x, uint64_t seed, float mean, float spread) {
  const int64_t width = x.cols();
  WithWeight(x.dtype, [&]<typename T>(T*) {
    ParallelFor(x.rows(), x.elements(), [&](int64_t r, int) {
      T* const row = x.row<T>(r);
      const auto first = static_cast<uint64_t>(r * width);
      if constexpr (sizeof(T) == 1) {
        for (int64_t i = 0; i < width; ++i) SeededWeight(seed, first + static_cast<uint64_t>(i), row[i]);
        x.scales()[r] = SeededScale(spread, T{});
      } else {
        for (int64_t i = 0; i < width; ++i) {
          row[i] = FromFloat<T>(mean + spread * SeededUniform(seed, first + static_cast<uint64_t>(i)));
        }
      }
    });
  });
}

}  // namespace internvl
