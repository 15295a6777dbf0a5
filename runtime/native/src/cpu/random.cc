#include "../seeded_uniform.h"
#include "cpu_backend.h"
#include "parallel.h"

namespace internvl {

void CpuBackend::FillRandom(const Tensor& x, uint64_t seed, float mean, float spread) {
  const int64_t width = x.cols();
  if (x.dtype == DType::kInt8) {
    ParallelFor(x.rows(), x.elements(), [&](int64_t r, int) {
      for (int64_t i = 0; i < width; ++i) {
        x.row<int8_t>(r)[i] = SeededWeight(seed, static_cast<uint64_t>(r * width + i));
      }
      x.scales()[r] = spread / 127.0f;
    });
    return;
  }
  WithElement(x.dtype, [&]<typename T>(T*) {
    ParallelFor(x.rows(), x.elements(), [&](int64_t r, int) {
      for (int64_t i = 0; i < width; ++i) {
        x.row<T>(r)[i] =
            FromFloat<T>(mean + spread * SeededUniform(seed, static_cast<uint64_t>(r * width + i)));
      }
    });
  });
}

}  // namespace internvl
