// From logits to the weights that a token is drawn by. In double precision, so that the weights of a large
// vocabulary still add up.

// foreach_target compiles what follows it once per instruction set: the order of these includes matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "weights.cc"
#include <hwy/foreach_target.h>
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>
// clang-format on

#include <cmath>

#include "operations.h"

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

double WeightsF64(const float* logits, double shift, double temperature, double* weights, int64_t n) {
  int64_t i = 0;
  double sum = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> df;
  const int64_t lanes = hn::Lanes(d);
  const auto by = hn::Set(d, shift), over = hn::Set(d, temperature);
  auto sums = hn::Zero(d);
  for (; i + lanes <= n; i += lanes) {
    // Shifted before it is divided, so that no temperature overflows.
    const auto x = hn::Div(hn::Sub(hn::PromoteTo(d, hn::LoadU(df, logits + i)), by), over);
    const auto weight = hn::Exp(d, x);
    hn::StoreU(weight, d, weights + i);
    sums = hn::Add(sums, weight);
  }
  sum = hn::GetLane(hn::SumOfLanes(d, sums));
#endif
  for (; i < n; ++i) {
    weights[i] = std::exp((static_cast<double>(logits[i]) - shift) / temperature);
    sum += weights[i];
  }
  return sum;
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {

HWY_EXPORT(WeightsF64);

Napi::Value Weights(const Call& call) {
  const auto logits = call.Float32s(0, "logits");
  const double shift = call.Number(1, "shift"), temperature = call.Number(2, "temperature");
  const auto weights = call.Float64s(3, "weights");
  REQUIRE(call, temperature > 0, "temperature must be above 0");
  REQUIRE(call, weights.size() == logits.size(),
          "weights must have " + std::to_string(logits.size()) + " elements, not " +
              std::to_string(weights.size()));
  return Napi::Number::New(call.env(),
                           HWY_DYNAMIC_DISPATCH(WeightsF64)(logits.data(), shift, temperature, weights.data(),
                                                            static_cast<int64_t>(logits.size())));
}

}  // namespace internvl
#endif
