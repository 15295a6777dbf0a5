// From a row of logits to a token, and to log-probabilities. runtime/engine/draw.ts and top-k.ts say the same
// plainly.
#include <algorithm>
#include <cmath>

#include "operations.h"
#include "rank_order.h"
#include "token_weights.h"

namespace internvl {
namespace {

/// Tokens whose sum of weights is kept, so that a draw by id need not walk all of them.
constexpr int64_t kBlock = 1024;

/// The first token by id at which the sum of weights is above `share` of all; where none is, for rounding,
/// the last that weighs anything.
int64_t DrawById(std::span<const float> logits, double most, double temperature, double share,
                 Scratch& scratch) {
  const int64_t n = static_cast<int64_t>(logits.size());
  const int64_t blocks = (n + kBlock - 1) / kBlock;
  double* const weights = scratch.Get<double>(n);
  double* const sums = scratch.Get<double>(blocks);
  double total = 0;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t begin = b * kBlock;
    sums[b] =
        TokenWeights(logits.data() + begin, most, temperature, weights + begin, std::min(kBlock, n - begin));
    total += sums[b];
  }
  double left = share * total;
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

/// The tokens that top-k leaves, by ascending id: those whose logit is at least the k-th largest.
std::span<const int32_t> TopK(const uint32_t* distances, int64_t n, int64_t k, Scratch& scratch) {
  int32_t* const ids = scratch.Get<int32_t>(n);
  const RankPlace last = RankOrder({distances, nullptr, n}, scratch).Reaching(static_cast<double>(k));
  return {ids, static_cast<size_t>(IndicesBetween(distances, 0, distances[last.item], ids, n))};
}

/// The first token in rank order at which the sum of the weights is above `share` of those of the kept
/// tokens.
int64_t DrawByRank(std::span<const float> logits, double most, double temperature, int64_t top_k,
                   double top_p, double share, Scratch& scratch) {
  const int64_t n = static_cast<int64_t>(logits.size());
  uint32_t* const distances = scratch.Get<uint32_t>(n);
  RankDistances(logits.data(), distances, n);
  std::span<const int32_t> ids;
  const float* kept = logits.data();
  int64_t count = n;
  if (top_k > 0 && top_k < n) {
    ids = TopK(distances, n, top_k, scratch);
    count = static_cast<int64_t>(ids.size());
    float* const chosen = scratch.Get<float>(count);
    for (int64_t i = 0; i < count; ++i) {
      chosen[i] = logits[static_cast<size_t>(ids[static_cast<size_t>(i)])];
      distances[i] = distances[ids[static_cast<size_t>(i)]];
    }
    kept = chosen;
  }
  double* const weights = scratch.Get<double>(count);
  double total = TokenWeights(kept, most, temperature, weights, count);
  const RankOrder order({distances, weights, count}, scratch);
  if (top_p < 1) total = order.Reaching(top_p * total).sum;
  const int64_t drawn = order.Exceeding(share * total).item;
  return ids.empty() ? drawn : ids[static_cast<size_t>(drawn)];
}

}  // namespace

Napi::Value DrawToken(const Call& call) {
  const auto logits = call.Float32s(0, "logits");
  const double most = call.Number(1, "most"), temperature = call.Number(2, "temperature");
  const int64_t top_k = call.Integer(3, "topK", 0);
  const double top_p = call.Number(4, "topP"), share = call.Number(5, "share");
  REQUIRE(call, !logits.empty() && logits.size() <= INT32_MAX, "logits must have a token at least");
  REQUIRE(call, temperature > 0, "temperature must be above 0");
  REQUIRE(call, top_p > 0, "topP must be above 0");
  REQUIRE(call, share >= 0 && share < 1, "share must be in [0, 1)");
  Scratch scratch(call.environment.host_arena);
  const bool all = top_p >= 1 && (top_k == 0 || top_k >= static_cast<int64_t>(logits.size()));
  const int64_t token = all ? DrawById(logits, most, temperature, share, scratch)
                            : DrawByRank(logits, most, temperature, top_k, top_p, share, scratch);
  return Napi::Number::New(call.env(), static_cast<double>(token));
}

Napi::Value LogSumExp(const Call& call) {
  const auto logits = call.Float32s(0, "logits");
  const double shift = call.Number(1, "shift");
  return Napi::Number::New(call.env(),
                           std::log(SumExp(logits.data(), shift, static_cast<int64_t>(logits.size()))));
}

Napi::Value TopTokens(const Call& call) {
  const auto logits = call.Float32s(0, "logits");
  const auto ids = call.Int32s(1, "ids");
  REQUIRE(call, ids.size() <= logits.size() && logits.size() <= INT32_MAX,
          "ids must have at most " + std::to_string(logits.size()) + " elements, not " +
              std::to_string(ids.size()));
  if (ids.empty()) return call.env().Undefined();
  const int64_t n = static_cast<int64_t>(logits.size());
  Scratch scratch(call.environment.host_arena);
  uint32_t* const distances = scratch.Get<uint32_t>(n);
  RankDistances(logits.data(), distances, n);
  const auto top = TopK(distances, n, static_cast<int64_t>(ids.size()), scratch);
  std::partial_sort_copy(top.begin(), top.end(), ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
    return distances[a] != distances[b] ? distances[a] < distances[b] : a < b;
  });
  return call.env().Undefined();
}

}  // namespace internvl
