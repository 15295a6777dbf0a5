// What is kept of a row while its token is drawn.
#pragma once

#include "../memory.h"
#include "../tensor.h"
#include "token_weight.h"

namespace internvl::cuda {

/// Ranges of weights that a row's histogram tells apart.
constexpr int kDrawBuckets = 512;

struct RowDraw {
  enum Way : int { kNone, kById, kByRank };

  /// Of a row that has its token.
  RowDraw() = default;
  __device__ RowDraw(const TokenDraw& draw, float most, int64_t columns)
      : weigher(most, draw.temperature), top_p(draw.top_p), share(draw.share) {
    if (draw.top_k < static_cast<double>(columns)) top_k = static_cast<unsigned>(draw.top_k);
    way = top_k > 0 || top_p < 1 ? kByRank : kById;
  }

  Way way = kNone;
  unsigned top_k = 0;  // 0: all
  Weigher weigher;
  double top_p = 1, share = 0;
  /// Of a draw by rank: how many tokens it can come to, and how far the last of them lies behind the most
  /// likely one in the order of logits.
  unsigned reachable = 0, farthest = 0;

  /// The first whole sum of weights that is `part` of a sum at least.
  __device__ static Mass Reaching(double part, Mass sum) {
    const auto wanted = static_cast<Mass>(ceil(part * static_cast<double>(sum)));
    return wanted < 1 ? 1 : wanted < sum ? wanted : sum;
  }
  /// The first that is more.
  __device__ static Mass Exceeding(double part, Mass sum) {
    const Mass wanted = static_cast<Mass>(part * static_cast<double>(sum)) + 1;
    return wanted < sum ? wanted : sum;
  }
};

/// Weights by their logarithm, the largest first.
struct DrawHistogram {
  Mass masses[kDrawBuckets];
  unsigned counts[kDrawBuckets];
};

/// Overwrites the ids of the rows that draw. Their histograms are zero.
void DrawTokens(const Tensor& logits, int64_t columns, RowDraw* draws, DrawHistogram* histograms,
                const Tensor& ids, Scratch& scratch, cudaStream_t stream);

}  // namespace internvl::cuda
