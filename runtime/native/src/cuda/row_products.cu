// A warp computes two outputs of up to 4 rows of x: it holds 8 vectors of the weight in flight, reads x,
// which all warps share, from the nearest cache, and adds the lanes' sums at the end.
#include <algorithm>

#include "row_products.h"
#include "weight_loads.h"

namespace internvl::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kRows = 2;   // of the weight, per warp
constexpr int kSteps = 4;  // vectors of each row in flight
constexpr int kMostTokens = 4;

/// As many elements of x as a vector of the weight has.
template <typename X, int kCount>
struct alignas(kCount * sizeof(X) < 16 ? kCount * sizeof(X) : 16) Elements {
  X value[kCount];
};

template <typename X, int kCount>
__device__ void WidenElements(const X* from, float (&to)[kCount]) {
  const auto elements = *reinterpret_cast<const Elements<X, kCount>*>(from);
#pragma unroll
  for (int i = 0; i < kCount; ++i) to[i] = Widen(elements.value[i]);
}

template <typename X, typename W, int kTokens>
__global__ void __launch_bounds__(kWarps * 32)
    RowProductsKernel(const X* x, int tokens, const W* weight, int64_t n, int64_t k, bool vectors,
                      SumsOut out) {
  constexpr int kVector = 16 / sizeof(W);
  constexpr int64_t kStep = 32 * kVector;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32) * kRows;
  if (first >= n) return;

  // Beyond the last row or token the last one is computed again, and not stored.
  const W* rows[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) rows[r] = weight + min(first + r, n - 1) * k;
  const X* xs[kTokens];
#pragma unroll
  for (int t = 0; t < kTokens; ++t) xs[t] = x + min(t, tokens - 1) * k;
  float sums[kTokens][kRows] = {};

  const auto add = [&](const uint4(&loaded)[kRows], int64_t at) {
    float wide[kRows][kVector];
#pragma unroll
    for (int r = 0; r < kRows; ++r) WidenVector(loaded[r], wide[r], static_cast<const W*>(nullptr));
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      float values[kVector];
      WidenElements(xs[t] + at, values);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int i = 0; i < kVector; ++i) sums[t][r] += values[i] * wide[r][i];
      }
    }
  };
  if (vectors) {
    int64_t at = static_cast<int64_t>(lane) * kVector;
    for (; at + (kSteps - 1) * kStep < k; at += kSteps * kStep) {
      uint4 loaded[kSteps][kRows];
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
#pragma unroll
        for (int r = 0; r < kRows; ++r) loaded[s][r] = LoadOnce(rows[r] + at + s * kStep);
      }
#pragma unroll
      for (int s = 0; s < kSteps; ++s) add(loaded[s], at + s * kStep);
    }
    for (; at < k; at += kStep) {
      uint4 loaded[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) loaded[r] = LoadOnce(rows[r] + at);
      add(loaded, at);
    }
  } else {
    for (int64_t at = lane; at < k; at += 32) {
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
#pragma unroll
        for (int r = 0; r < kRows; ++r) sums[t][r] += Widen(xs[t][at]) * Widen(rows[r][at]);
      }
    }
  }

#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float sum = sums[t][r];
#pragma unroll
      for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
      if (lane == t * kRows + r && t < tokens && first + r < n) out.Store(t, first + r, sum);
    }
  }
}

template <typename X, typename W, int kTokens>
void LaunchKernel(const X* x, int64_t tokens, const W* weight, int64_t n, int64_t k, const SumsOut& out,
                  cudaStream_t stream) {
  const bool vectors = k % (16 / static_cast<int64_t>(sizeof(W))) == 0;
  const auto blocks = static_cast<unsigned>((n + kWarps * kRows - 1) / (kWarps * kRows));
  Launch(RowProductsKernel<X, W, kTokens>, blocks, kWarps * 32, 0, stream, x, static_cast<int>(tokens),
         weight, n, k, vectors, out);
}

template <typename X, typename W>
void Run(const Tensor& x, const Tensor& weight, SumsOut out, cudaStream_t stream) {
  const int64_t n = weight.rows(), k = x.cols();
  for (int64_t first = 0; first < x.rows(); first += kMostTokens) {
    const int64_t tokens = std::min<int64_t>(kMostTokens, x.rows() - first);
    const X* from = x.as<X>() + first * k;
    const auto launch = tokens > 1 ? LaunchKernel<X, W, kMostTokens> : LaunchKernel<X, W, 1>;
    launch(from, tokens, weight.as<W>(), n, k, out, stream);
    out = out.Below(tokens);
  }
}

}  // namespace

void RowProducts(const Tensor& x, const Tensor& weight, const SumsOut& out, cudaStream_t stream) {
  WithElement(x.dtype, [&]<typename X>(X*) {
    WithWeight(weight.dtype, [&]<typename W>(W*) { Run<X, W>(x, weight, out, stream); });
  });
}

}  // namespace internvl::cuda
