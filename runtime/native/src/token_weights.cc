#include "token_weights.h"

// foreach_target compiles what follows it once per instruction set: the order of these includes matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "token_weights.cc"
#include <hwy/foreach_target.h>
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>
// clang-format on

#include <algorithm>
#include <cmath>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR
// Sums what `take` makes of each whole vector of doubles; returns how many elements that were.
template <typename F>
HWY_INLINE int64_t SumVectors(const float* logits, int64_t n, double* sum, F take) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> df;
  const int64_t lanes = hn::Lanes(d);
  auto a = hn::Zero(d), b = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    a = hn::Add(a, take(i, hn::PromoteTo(d, hn::LoadU(df, logits + i))));
    b = hn::Add(b, take(i + lanes, hn::PromoteTo(d, hn::LoadU(df, logits + i + lanes))));
  }
  *sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(a, b)));
  return i;
}
#endif

double TokenWeightsF64(const float* logits, double shift, double temperature, double* weights, int64_t n) {
  int64_t i = 0;
  double sum = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<double> d;
  const auto by = hn::Set(d, shift), over = hn::Set(d, temperature);
  i = SumVectors(logits, n, &sum, [=](int64_t at, auto x) HWY_ATTR {
    const auto weight = hn::Exp(d, hn::Div(hn::Sub(x, by), over));
    hn::StoreU(weight, d, weights + at);
    return weight;
  });
#endif
  for (; i < n; ++i) {
    weights[i] = std::exp((static_cast<double>(logits[i]) - shift) / temperature);
    sum += weights[i];
  }
  return sum;
}

double SumExpF64(const float* logits, double shift, int64_t n) {
  int64_t i = 0;
  double sum = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<double> d;
  const auto by = hn::Set(d, shift);
  i = SumVectors(logits, n, &sum, [=](int64_t, auto x) HWY_ATTR { return hn::Exp(d, hn::Sub(x, by)); });
#endif
  for (; i < n; ++i) sum += std::exp(static_cast<double>(logits[i]) - shift);
  return sum;
}

void RankDistancesU32(const float* logits, uint32_t* distances, int64_t n) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const int64_t lanes = hn::Lanes(d);
  const auto magnitude = hn::Set(di, INT32_MAX);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    // Adding 0 makes 0 of -0. The bits of a negative float rise while it falls, those of a positive one rise
    // with it.
    const auto bits = hn::BitCast(di, hn::Add(hn::LoadU(d, logits + i), hn::Zero(d)));
    const auto negative = hn::ShiftRight<31>(bits);
    const auto distance = hn::Xor(bits, hn::AndNot(negative, magnitude));
    hn::StoreU(distance, di, reinterpret_cast<int32_t*>(distances + i));
  }
  for (; i < n; ++i) {
    const float value = logits[i] + 0.0f;
    int32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    distances[i] = static_cast<uint32_t>(bits < 0 ? bits : bits ^ INT32_MAX);
  }
}

void DistanceRangeU32(const uint32_t* distances, int64_t n, uint32_t* low, uint32_t* high) {
  const hn::ScalableTag<uint32_t> d;
  const int64_t lanes = hn::Lanes(d);
  auto least = hn::Set(d, UINT32_MAX), most = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::LoadU(d, distances + i);
    least = hn::Min(least, v);
    most = hn::Max(most, v);
  }
  *low = hn::GetLane(hn::MinOfLanes(d, least));
  *high = hn::GetLane(hn::MaxOfLanes(d, most));
  for (; i < n; ++i) {
    *low = std::min(*low, distances[i]);
    *high = std::max(*high, distances[i]);
  }
}

int64_t IndicesBetweenU32(const uint32_t* distances, uint32_t low, uint32_t high, int32_t* indices,
                          int64_t n) {
  const hn::ScalableTag<uint32_t> d;
  const int64_t lanes = hn::Lanes(d);
  const auto first = hn::Set(d, low), last = hn::Set(d, high);
  int64_t count = 0;
  // Most vectors hold none; in the others a choice without branches costs less than wrong guesses.
  const auto take = [&](int64_t at) {
    indices[count] = static_cast<int32_t>(at);
    count += distances[at] >= low && distances[at] <= high ? 1 : 0;
  };
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::LoadU(d, distances + i);
    if (hn::AllTrue(d, hn::Or(hn::Lt(v, first), hn::Gt(v, last)))) continue;
    for (int64_t j = i; j < i + lanes; ++j) take(j);
  }
  for (; i < n; ++i) take(i);
  return count;
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {

HWY_EXPORT(TokenWeightsF64);
HWY_EXPORT(SumExpF64);
HWY_EXPORT(RankDistancesU32);
HWY_EXPORT(DistanceRangeU32);
HWY_EXPORT(IndicesBetweenU32);

double TokenWeights(const float* logits, double shift, double temperature, double* weights, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(TokenWeightsF64)(logits, shift, temperature, weights, n);
}
double SumExp(const float* logits, double shift, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(SumExpF64)(logits, shift, n);
}
void RankDistances(const float* logits, uint32_t* distances, int64_t n) {
  HWY_DYNAMIC_DISPATCH(RankDistancesU32)(logits, distances, n);
}
void DistanceRange(const uint32_t* distances, int64_t n, uint32_t* low, uint32_t* high) {
  HWY_DYNAMIC_DISPATCH(DistanceRangeU32)(distances, n, low, high);
}
int64_t IndicesBetween(const uint32_t* distances, uint32_t low, uint32_t high, int32_t* indices, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(IndicesBetweenU32)(distances, low, high, indices, n);
}

}  // namespace internvl
#endif
