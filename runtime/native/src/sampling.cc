// From a row of logits that JavaScript has to a token, and to log-probabilities. runtime/engine/draw.ts and
// top-k.ts say the same plainly.
#include <algorithm>
#include <cmath>

#include "operations.h"
#include "rank_order.h"
#include "token_draw.h"
#include "token_weights.h"

namespace internvl {
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
  const int64_t token = Draw(logits, most, {temperature, static_cast<double>(top_k), top_p, share}, scratch);
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
