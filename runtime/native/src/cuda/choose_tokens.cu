// A token from each row: few rows of some 64,000 logits, so that each row is cut into parts for blocks of
// their own. The likeliest of each part, then of each row: for greedy rows that is all, and each logit was
// read once. Rows that draw go on from there (draw_tokens.cu).
#include <string>

#include "cuda_backend.h"
#include "draw_tokens.h"

namespace internvl::cuda {
namespace {

constexpr int kThreads = 256, kLogitsOfThread = 8;
constexpr int64_t kPart = int64_t{kThreads} * kLogitsOfThread;

/// A value and its place as one number, the larger the better: the value's bits in an order that integers
/// share, then the place, lower ones larger. NaN and infinity beat everything, no value at all loses.
using Candidate = unsigned long long;
constexpr Candidate kNone = 0, kUnusable = ~0ull;
/// The bits of -infinity in that order; those of -FLT_MAX are one more.
constexpr uint32_t kMinusInfinity = 0x007fffffu;

__device__ inline Candidate CandidateOf(float value, uint32_t column) {
  const uint32_t bits = __float_as_uint(value + 0.0f);  // -0 becomes 0, which it equals
  if ((bits & 0x7fffffffu) > 0x7f800000u || bits == 0x7f800000u) return kUnusable;
  const uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return Candidate{ordered} << 32 | ~column;
}

__device__ inline Candidate Better(Candidate a, Candidate b) { return a > b ? a : b; }

/// The best of the block, in its first thread.
__device__ inline Candidate BestOfBlock(Candidate best) {
  __shared__ Candidate warps[kThreads / 32];
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    best = Better(best, __shfl_xor_sync(0xffffffffu, best, distance));
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = best;
  __syncthreads();
  if (threadIdx.x == 0) {
#pragma unroll
    for (int warp = 1; warp < kThreads / 32; ++warp) best = Better(best, warps[warp]);
  }
  return best;
}

/// blockIdx: row, part. Rows may start anywhere (64,007 columns), so loads are of single logits; 8 of a
/// thread's are under way at once.
__global__ void __launch_bounds__(kThreads)
    BestOfPartKernel(const float* logits, int64_t stride, int64_t columns, Candidate* best_of_parts) {
  const float* row = logits + blockIdx.x * stride;
  const int64_t first = blockIdx.y * kPart + threadIdx.x;
  Candidate best = kNone;
#pragma unroll
  for (int i = 0; i < kLogitsOfThread; ++i) {
    const int64_t column = first + i * kThreads;
    if (column < columns) best = Better(best, CandidateOf(row[column], static_cast<uint32_t>(column)));
  }
  best = BestOfBlock(best);
  if (threadIdx.x == 0) best_of_parts[int64_t{blockIdx.x} * gridDim.y + blockIdx.y] = best;
}

__global__ void __launch_bounds__(kThreads)
    BestOfRowKernel(const Candidate* best_of_parts, int64_t parts, const float* logits, int64_t stride,
                    int64_t columns, const TokenDraw* draws, RowDraw* rows, DrawHistogram* histograms,
                    int32_t* ids) {
  for (int bucket = static_cast<int>(threadIdx.x); bucket < kDrawBuckets; bucket += kThreads) {
    histograms[blockIdx.x].masses[bucket] = 0;
    histograms[blockIdx.x].counts[bucket] = 0;
  }
  Candidate best = kNone;
  for (int64_t part = threadIdx.x; part < parts; part += kThreads)
    best = Better(best, best_of_parts[blockIdx.x * parts + part]);
  best = BestOfBlock(best);
  if (threadIdx.x != 0) return;
  const bool usable = best != kUnusable && static_cast<uint32_t>(best >> 32) > kMinusInfinity;
  const int32_t id = usable ? static_cast<int32_t>(~static_cast<uint32_t>(best)) : -1;
  ids[blockIdx.x] = id;
  const TokenDraw& draw = draws[blockIdx.x];
  rows[blockIdx.x] = usable && draw.temperature > 0
                         ? RowDraw(draw, logits[int64_t{blockIdx.x} * stride + id], columns)
                         : RowDraw();
}

}  // namespace

void CudaBackend::ChooseTokens(const Tensor& logits, int64_t columns, const Indices& draws,
                               const Tensor& ids) {
  const auto rows = static_cast<unsigned>(logits.rows());
  if (rows == 0) return;
  if (columns > kMostColumns) {
    throw DeviceError("logits of " + std::to_string(columns) +
                      " tokens: a CUDA device chooses among at most " + std::to_string(kMostColumns));
  }
  const int64_t parts = (columns + kPart - 1) / kPart;
  Scratch scratch(arena());
  auto* best_of_parts = scratch.Get<Candidate>(rows * parts);
  if (parts > 0) {
    Launch(BestOfPartKernel, dim3(rows, static_cast<unsigned>(parts)), kThreads, 0, stream_,
           logits.as<float>(), logits.cols(), columns, best_of_parts);
  }
  auto* row_draws = scratch.Get<RowDraw>(rows);
  auto* histograms = scratch.Get<DrawHistogram>(rows);
  Launch(BestOfRowKernel, rows, kThreads, 0, stream_, best_of_parts, parts, logits.as<float>(), logits.cols(),
         columns, draws.tensor.as<TokenDraw>(), row_draws, histograms, ids.as<int32_t>());
  DrawTokens(logits, columns, row_draws, histograms, ids, scratch, stream_);
}

}  // namespace internvl::cuda
