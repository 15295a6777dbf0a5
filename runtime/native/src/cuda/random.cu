// Generated weights: written once, at the speed of memory.
#include "../seeded_uniform.h"
#include "cuda_backend.h"
#include "packs.h"
#include "row_grid.h"

namespace internvl::cuda {
namespace {

template <typename T, int N>
__global__ void __launch_bounds__(RowGrid::kThreads)
    FillRandomKernel(T* x, int64_t width, uint64_t seed, float mean, float spread) {
  const int64_t i = PackOfRow() * N, first = blockIdx.x * width + i;
  if (i >= width) return;
  float values[N];
#pragma unroll
  for (int j = 0; j < N; ++j) {
    // Rounded as the CPU rounds: every device makes the same numbers.
    const float uniform = SeededUniform(seed, static_cast<uint64_t>(first + j));
    values[j] = __fadd_rn(mean, __fmul_rn(spread, uniform));
  }
  StorePack(values, x + first);
}

/// Four weights a thread, where rows are made of fours. The first thread of a row writes its scale.
template <typename Q, int N>
__global__ void __launch_bounds__(RowGrid::kThreads)
    FillWeightsKernel(Q* x, int64_t width, uint64_t seed, float scale, float* scales) {
  const int64_t i = PackOfRow() * N, first = blockIdx.x * width + i;
  if (i == 0) scales[blockIdx.x] = scale;
  if (i >= width) return;
  Q values[N];
#pragma unroll
  for (int j = 0; j < N; ++j) SeededWeight(seed, static_cast<uint64_t>(first + j), values[j]);
  if constexpr (N == 4) {
    uint32_t bits;
    std::memcpy(&bits, values, sizeof(bits));
    *reinterpret_cast<uint32_t*>(x + first) = bits;
  } else {
    x[first] = values[0];
  }
}

template <typename Q>
void FillWeights(const Tensor& x, uint64_t seed, float spread, cudaStream_t stream) {
  const bool fours = x.cols() % 4 == 0;
  const RowGrid threads(x.rows(), fours ? x.cols() / 4 : x.cols());
  if (threads.empty) return;
  Launch(fours ? FillWeightsKernel<Q, 4> : FillWeightsKernel<Q, 1>, threads.grid, threads.block, 0, stream,
         x.as<Q>(), x.cols(), seed, SeededScale(spread, Q{}), x.scales());
}

}  // namespace

void CudaBackend::FillRandom(const Tensor& x, uint64_t seed, float mean, float spread) {
  const int64_t width = x.cols();
  if (x.dtype == DType::kInt8) return FillWeights<int8_t>(x, seed, spread, stream_);
  if (x.dtype == DType::kFloat8) return FillWeights<Float8>(x, seed, spread, stream_);
  WithElement(x.dtype, [&]<typename T>(T*) {
    WithPacks(width, [&]<int N>(std::integral_constant<int, N>) {
      const RowGrid threads(x.rows(), width / N);
      if (threads.empty) return;
      Launch(FillRandomKernel<T, N>, threads.grid, threads.block, 0, stream_, x.as<T>(), width, seed, mean,
             spread);
    });
  });
}

}  // namespace internvl::cuda
