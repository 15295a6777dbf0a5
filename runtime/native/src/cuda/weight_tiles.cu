#include <algorithm>

#include "weight_loads.h"
#include "weight_tiles.h"

namespace internvl::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 1 << 16;

unsigned BlocksFor(int64_t threads) {
  return static_cast<unsigned>(std::clamp<int64_t>((threads + kThreads - 1) / kThreads, 1, kMostBlocks));
}

__device__ inline int64_t Thread() { return static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; }
__device__ inline int64_t Threads() { return static_cast<int64_t>(gridDim.x) * kThreads; }

template <typename T>
__device__ void Set(T* to, float value) {
  const float values[1] = {value};
  StorePack(values, to);
}

template <typename From, typename To>
__global__ void __launch_bounds__(kThreads) WidenKernel(const From* from, To* to, int64_t count) {
  constexpr int kVector = 16 / sizeof(From);
  struct alignas(16) Elements {
    To value[kVector];
  };
  const int64_t vectors = count / kVector;
  for (int64_t v = Thread(); v < vectors; v += Threads()) {
    float wide[kVector];
    WidenVector(LoadOnce(from + v * kVector), wide, static_cast<const From*>(nullptr));
    Elements elements;
#pragma unroll
    for (int i = 0; i < kVector; ++i) Set(&elements.value[i], wide[i]);
    reinterpret_cast<Elements*>(to)[v] = elements;
  }
  for (int64_t i = vectors * kVector + Thread(); i < count; i += Threads()) Set(&to[i], Widen(from[i]));
}

template <typename From, typename To>
void LaunchWiden(const void* from, void* to, int64_t count, cudaStream_t stream) {
  Launch(WidenKernel<From, To>, BlocksFor(count * static_cast<int64_t>(sizeof(From)) / 16), kThreads, 0,
         stream, static_cast<const From*>(from), static_cast<To*>(to), count);
}

__global__ void __launch_bounds__(kThreads)
    StoreSumsKernel(const float* sums, int64_t sums_stride, int64_t rows, int64_t columns, SumsOut out) {
  for (int64_t i = Thread(); i < rows * columns; i += Threads()) {
    const int64_t row = i / columns, column = i % columns;
    out.Store(row, column, sums[row * sums_stride + column]);
  }
}

}  // namespace

void WidenValues(const void* from, DType from_type, void* to, DType to_type, int64_t count,
                 cudaStream_t stream) {
  WithWeight(from_type, [&]<typename From>(From*) {
    if constexpr (sizeof(From) == 1) {
      if (to_type == DType::kBFloat16) return LaunchWiden<From, BFloat16>(from, to, count, stream);
    }
    LaunchWiden<From, float>(from, to, count, stream);
  });
}

void StoreSums(const float* sums, int64_t sums_stride, int64_t rows, int64_t columns, const SumsOut& out,
               cudaStream_t stream) {
  Launch(StoreSumsKernel, BlocksFor(rows * columns), kThreads, 0, stream, sums, sums_stride, rows, columns,
         out);
}

}  // namespace internvl::cuda
