// A block computes 16 or 32 outputs of up to 16 rows of x, its warps each a part of K. A warp reads its
// weights straight into fragments of the tensor cores: which of 16 numbers meets which in a product does not
// matter as long as both factors are ordered alike, so that a lane may take 16 bytes in a row of either for
// its places.
#include <algorithm>

#include "row_products.h"
#include "tensor_core.h"
#include "weight_loads.h"

namespace internvl::cuda {
namespace {

constexpr int kWarps = 8;

/// 16 bytes of a weight as pairs of bfloat16.
__device__ inline void Pairs(uint4 vector, uint32_t (&pairs)[4], const BFloat16*) {
  pairs[0] = vector.x, pairs[1] = vector.y, pairs[2] = vector.z, pairs[3] = vector.w;
}
template <typename Q>
__device__ inline void Pairs(uint4 vector, uint32_t (&pairs)[8], const Q* type) {
  float wide[16];
  WidenVector(vector, wide, type);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    // Neither whole numbers up to 128 nor e4m3 have anything below their upper halves.
    pairs[i] = __byte_perm(__float_as_uint(wide[2 * i]), __float_as_uint(wide[2 * i + 1]), 0x7632);
  }
}

template <typename W>
constexpr int kVector = 16 / sizeof(W);
/// Elements of K that the four lanes of a row take at a time.
template <typename W>
constexpr int64_t kStep = 4 * kVector<W>;

/// kTokenTiles of 8 rows of x, kRowTiles of 16 rows of the weight, kSteps vectors of each in flight.
template <typename W, int kTokenTiles, int kRowTiles, int kSteps>
__global__ void __launch_bounds__(kWarps * 32)
    TensorRowProductsKernel(const BFloat16* x, int tokens, const W* weight, int64_t n, int64_t k,
                            SumsOut out) {
  constexpr int kPairs = kVector<W> / 2;
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int group = lane / 4, place = lane % 4 * kVector<W>;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * (kRowTiles * 16);

  // Beyond the last row or token the last one is computed again, and not stored.
  const W* rows[kRowTiles][2];
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
    for (int upper = 0; upper < 2; ++upper) {
      rows[r][upper] = weight + min(first + r * 16 + upper * 8 + group, n - 1) * k + place;
    }
  }
  const BFloat16* xs[kTokenTiles];
#pragma unroll
  for (int c = 0; c < kTokenTiles; ++c) xs[c] = x + min(c * 8 + group, tokens - 1) * k + place;

  float sums[kTokenTiles][kRowTiles][4] = {};
  const auto load = [&](uint4(&loaded)[kRowTiles][2], int64_t at) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      loaded[r][0] = LoadOnce(rows[r][0] + at);
      loaded[r][1] = LoadOnce(rows[r][1] + at);
    }
  };
  const auto add = [&](const uint4(&loaded)[kRowTiles][2], int64_t at) {
    uint32_t b[kTokenTiles][kPairs];
#pragma unroll
    for (int c = 0; c < kTokenTiles; ++c) {
      const uint4* from = reinterpret_cast<const uint4*>(xs[c] + at);
#pragma unroll
      for (int i = 0; i < kPairs / 4; ++i) {
        const uint4 part = from[i];
        b[c][4 * i] = part.x, b[c][4 * i + 1] = part.y, b[c][4 * i + 2] = part.z, b[c][4 * i + 3] = part.w;
      }
    }
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      uint32_t lower[kPairs], upper[kPairs];
      Pairs(loaded[r][0], lower, static_cast<const W*>(nullptr));
      Pairs(loaded[r][1], upper, static_cast<const W*>(nullptr));
#pragma unroll
      for (int i = 0; i < kPairs; i += 2) {
        const uint32_t a[4] = {lower[i], upper[i], lower[i + 1], upper[i + 1]};
#pragma unroll
        for (int c = 0; c < kTokenTiles; ++c) {
          const uint32_t factor[2] = {b[c][i], b[c][i + 1]};
          MmaBf16(sums[c][r], a, factor);
        }
      }
    }
  };
  int64_t at = warp * kSteps * kStep<W>;
  for (; at + (kSteps - 1) * kStep<W> < k; at += kWarps * kSteps * kStep<W>) {
    uint4 loaded[kSteps][kRowTiles][2];
#pragma unroll
    for (int s = 0; s < kSteps; ++s) load(loaded[s], at + s * kStep<W>);
#pragma unroll
    for (int s = 0; s < kSteps; ++s) add(loaded[s], at + s * kStep<W>);
  }
  // What is left of K, less than one turn, is one warp's.
  for (; at < k; at += kStep<W>) {
    uint4 loaded[kRowTiles][2];
    load(loaded, at);
    add(loaded, at);
  }

  // The warps' sums in one order, whichever ends first.
  constexpr int kSums = kTokenTiles * kRowTiles * 128;
  __shared__ float parts[kWarps][kSums];
#pragma unroll
  for (int c = 0; c < kTokenTiles; ++c) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int i = 0; i < 4; ++i) parts[warp][(c * kRowTiles + r) * 128 + i * 32 + lane] = sums[c][r][i];
    }
  }
  __syncthreads();
  for (int at = static_cast<int>(threadIdx.x); at < kSums; at += kWarps * 32) {
    float sum = parts[0][at];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) sum = __fadd_rn(sum, parts[w][at]);
    const int tile = at / 128, i = at % 128 / 32, from = at % 32;
    const int token = tile / kRowTiles * 8 + from % 4 * 2 + i % 2;
    const int64_t row = first + tile % kRowTiles * 16 + i / 2 * 8 + from / 4;
    if (token < tokens && row < n) out.Store(token, row, sum);
  }
}

template <typename W, int kTokenTiles, int kRowTiles, int kSteps>
void LaunchKernel(const Tensor& x, const Tensor& weight, const SumsOut& out, cudaStream_t stream) {
  const int64_t n = weight.rows();
  const auto blocks = static_cast<unsigned>((n + kRowTiles * 16 - 1) / (kRowTiles * 16));
  Launch(TensorRowProductsKernel<W, kTokenTiles, kRowTiles, kSteps>, blocks, kWarps * 32, 0, stream,
         x.as<BFloat16>(), static_cast<int>(x.rows()), weight.as<W>(), n, x.cols(), out);
}

template <typename W>
void Run(const Tensor& x, const Tensor& weight, const SumsOut& out, cudaStream_t stream) {
  // x is read again for each tile of the weight: of more rows of x a block does more of the weight's.
  if (x.rows() <= 8) return LaunchKernel<W, 1, 1, 4>(x, weight, out, stream);
  LaunchKernel<W, 2, 2, 2>(x, weight, out, stream);
}

}  // namespace

bool HasTensorRowProducts(const Tensor& x, const Tensor& weight) {
  if (x.dtype != DType::kBFloat16 || x.cols() == 0) return false;
  if (IsQuantized(weight.dtype)) return x.cols() % kStep<int8_t> == 0;
  return weight.dtype == DType::kBFloat16 && x.cols() % kStep<BFloat16> == 0;
}

void TensorRowProducts(const Tensor& x, const Tensor& weight, const SumsOut& out, cudaStream_t stream) {
  if (weight.dtype == DType::kInt8) return Run<int8_t>(x, weight, out, stream);
  if (weight.dtype == DType::kFloat8) return Run<Float8>(x, weight, out, stream);
  Run<BFloat16>(x, weight, out, stream);
}

}  // namespace internvl::cuda
