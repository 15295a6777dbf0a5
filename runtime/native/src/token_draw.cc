// One seeded draw from a row of logits. runtime/engine/draw.ts says the same plainly.
#include "token_draw.h"

#include <algorithm>
#include <cmath>

#include "rank_order.h"
#include "token_weights.h"

namespace internvl {
namespace {

/// Tokens whose sum of weights is kept, so that a draw by id need not walk all of them.
constexpr int64_t kBlock = 1024;

/// The first token by id at which the sum of weights is above `share` of all; where none is, for rounding,
/// the last that weighs anything.
int64_t DrawById(std::span<const float> logits, double most, const TokenDraw& draw, Scratch& scratch) {
  const int64_t n = static_cast<int64_t>(logits.size());
  const int64_t blocks = (n + kBlock - 1) / kBlock;
  double* const weights = scratch.Get<double>(n);
  double* const sums = scratch.Get<double>(blocks);
  double total = 0;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t begin = b * kBlock;
    sums[b] = TokenWeights(logits.data() + begin, most, draw.temperature, weights + begin,
                           std::min(kBlock, n - begin));
    total += sums[b];
  }
  double left = draw.share * total;
  int64_t block = 0;
  for (; block < blocks && left >= sums[block]; ++block) left -= sums[block];
  for (int64_t id = block * kBlock; id < n; ++id) {
    left -= weights[id];
    if (left < 0) return id;
  }
  int64_t last = n - 1;
  while (last > 0 && weights[last] == 0) --last;
  return last;
}

/// The first token in rank order at which the sum of the weights is above `share` of those of the kept
/// tokens.
int64_t DrawByRank(std::span<const float> logits, double most, const TokenDraw& draw, Scratch& scratch) {
  const int64_t n = static_cast<int64_t>(logits.size());
  uint32_t* const distances = scratch.Get<uint32_t>(n);
  RankDistances(logits.data(), distances, n);
  std::span<const int32_t> ids;
  const float* kept = logits.data();
  int64_t count = n;
  if (draw.top_k > 0 && draw.top_k < static_cast<double>(n)) {
    ids = TopK(distances, n, static_cast<int64_t>(draw.top_k), scratch);
    count = static_cast<int64_t>(ids.size());
    float* const chosen = scratch.Get<float>(count);
    for (int64_t i = 0; i < count; ++i) {
      chosen[i] = logits[static_cast<size_t>(ids[static_cast<size_t>(i)])];
      distances[i] = distances[ids[static_cast<size_t>(i)]];
    }
    kept = chosen;
  }
  double* const weights = scratch.Get<double>(count);
  double total = TokenWeights(kept, most, draw.temperature, weights, count);
  const RankOrder order({distances, weights, count}, scratch);
  if (draw.top_p < 1) total = order.Reaching(draw.top_p * total).sum;
  const int64_t drawn = order.Exceeding(draw.share * total).item;
  return ids.empty() ? drawn : ids[static_cast<size_t>(drawn)];
}

}  // namespace

const char* ProblemOf(const TokenDraw& draw) {
  if (draw.temperature == 0) return nullptr;
  // What differences of logits can be divided by in float32.
  if (!(draw.temperature >= 1e-30 && draw.temperature <= 1e30)) {
    return "temperature must be 0 or in [1e-30, 1e30]";
  }
  if (!(draw.top_k >= 0 && draw.top_k == std::floor(draw.top_k))) return "topK must be a whole number >= 0";
  if (!(draw.top_p > 0)) return "topP must be above 0";
  if (!(draw.share >= 0 && draw.share < 1)) return "share must be in [0, 1)";
  return nullptr;
}

int64_t Draw(std::span<const float> logits, double most, const TokenDraw& draw, Scratch& scratch) {
  const bool all = draw.top_p >= 1 && (draw.top_k == 0 || draw.top_k >= static_cast<double>(logits.size()));
  return all ? DrawById(logits, most, draw, scratch) : DrawByRank(logits, most, draw, scratch);
}

}  // namespace internvl
