// A block a row, which it reads once and holds in registers between its two looks: for the largest magnitude,
// and to round.
#include "float8_pairs.h"
#include "packs.h"
#include "quantize_rows.h"

namespace internvl::cuda {
namespace {

constexpr int64_t kMostThreads = 1024;
constexpr int kMostPacks = 4;  // of a thread
/// e4m3 is multiplied in rows of a multiple of 16 bytes.
constexpr int64_t kWidthUnit = 16;

/// The largest over all threads of the block, a multiple of 32 of them, in every one of them.
__device__ inline uint32_t BlockMax(uint32_t value) {
  __shared__ uint32_t warps[32];
  const auto of_warp = [](uint32_t most) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      most = max(most, __shfl_xor_sync(0xffffffffu, most, distance));
    }
    return most;
  };
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  value = of_warp(value);
  if (lane == 0) warps[warp] = value;
  __syncthreads();
  return of_warp(lane < blockDim.x / 32 ? warps[lane] : 0u);
}

/// kPacks of 8 elements a thread, blockDim.x of them side by side.
template <int kPacks>
__global__ void __launch_bounds__(kMostThreads)
    QuantizeRowsKernel(const BFloat16* x, int packs, Float8* codes, float* scales) {
  const int64_t first = int64_t{blockIdx.x} * packs;
  const auto* from = reinterpret_cast<const uint4*>(x) + first;
  uint4 held[kPacks] = {};
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int at = static_cast<int>(p * blockDim.x + threadIdx.x);
    if (at < packs) held[p] = from[at];
  }
  // As whole numbers infinities and NaNs are larger than any number: none is lost.
  uint32_t larger = 0;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const uint32_t pairs[4] = {held[p].x, held[p].y, held[p].z, held[p].w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      larger = max(larger, max(pairs[i] << 16 & 0x7fff0000u, pairs[i] & 0x7fff0000u));
    }
  }
  const float most = __uint_as_float(BlockMax(larger)), factor = Float8Factor(most);
  if (threadIdx.x == 0) scales[blockIdx.x] = most / kLargestFloat8;

  auto* to = reinterpret_cast<uint2*>(codes) + first;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int at = static_cast<int>(p * blockDim.x + threadIdx.x);
    const uint32_t pairs[4] = {held[p].x, held[p].y, held[p].z, held[p].w};
    uint32_t halves[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      halves[i] = PackFloat8(FromBits(pairs[i]) * factor, __uint_as_float(pairs[i] & 0xffff0000u) * factor);
    }
    if (at < packs) to[at] = make_uint2(halves[0] | halves[1] << 16, halves[2] | halves[3] << 16);
  }
}

}  // namespace

bool HasQuantizeRows(const Tensor& x) {
  return x.dtype == DType::kBFloat16 && x.cols() > 0 && x.cols() % kWidthUnit == 0 &&
         x.cols() <= kMostThreads * kMostPacks * kPack;
}

void QuantizeRows(const Tensor& x, Float8* codes, float* scales, cudaStream_t stream) {
  const auto packs = static_cast<int>(x.cols() / kPack);
  // More threads where a row is long, more of it in each where they are many: rows in flight beside it hide
  // what a block waits for.
  const int held = packs <= 512 ? 1 : packs <= 1024 ? 2 : kMostPacks;
  const auto kernel = held == 1   ? QuantizeRowsKernel<1>
                      : held == 2 ? QuantizeRowsKernel<2>
                                  : QuantizeRowsKernel<kMostPacks>;
  const auto threads = static_cast<unsigned>(((packs + held - 1) / held + 31) / 32 * 32);
  Launch(kernel, static_cast<unsigned>(x.rows()), threads, 0, stream, x.as<BFloat16>(), packs, codes, scales);
}

}  // namespace internvl::cuda
