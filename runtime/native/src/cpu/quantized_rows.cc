#include "quantized_rows.h"

#include <algorithm>
#include <cmath>

// foreach_target compiles what follows it once per instruction set: the order of these includes matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/quantized_rows.cc"
#include <hwy/foreach_target.h>
#include "row_loads-inl.h"
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {

constexpr float kLargest = 127.0f;

float QuantizeF32(const float* from, int8_t* to, int64_t n) {
  const D d;
  const hn::Rebind<int16_t, D> di16;
  const hn::Rebind<int8_t, D> di8;
  const int64_t lanes = hn::Lanes(d);
  V most = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) most = hn::Max(most, hn::Abs(hn::LoadU(d, from + i)));
  float magnitude = hn::GetLane(hn::MaxOfLanes(d, most));
  for (; i < n; ++i) magnitude = std::max(magnitude, std::fabs(from[i]));
  if (magnitude == 0.0f) {
    std::fill_n(to, n, int8_t{0});
    return 0.0f;
  }
  const float scale = magnitude / kLargest;
  const V factor = hn::Set(d, kLargest / magnitude);
  for (i = 0; i + lanes <= n; i += lanes) {
    const auto whole = hn::NearestInt(hn::Mul(hn::LoadU(d, from + i), factor));
    hn::StoreU(hn::DemoteTo(di8, hn::DemoteTo(di16, whole)), di8, to + i);
  }
  for (; i < n; ++i) to[i] = static_cast<int8_t>(std::nearbyint(from[i] * (kLargest / magnitude)));
  return scale;
}

void WidenToF32(const int8_t* from, float* to, int64_t n) {
  const D d;
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(LoadAt(d, from + i), d, to + i);
  for (; i < n; ++i) to[i] = from[i];
}

void WidenToBf16(const int8_t* from, BFloat16* to, int64_t n) {
  const D d;
  const hn::RebindToSigned<D> di32;
  const hn::Rebind<int16_t, D> di16;
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    // The lower half of these floats is zero, and an arithmetic shift keeps the upper one inside int16.
    const auto upper = hn::ShiftRight<16>(hn::BitCast(di32, LoadAt(d, from + i)));
    hn::StoreU(hn::DemoteTo(di16, upper), di16, reinterpret_cast<int16_t*>(to + i));
  }
  for (; i < n; ++i) to[i] = ToBFloat16(from[i]);
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {

HWY_EXPORT(QuantizeF32);
HWY_EXPORT(WidenToF32);
HWY_EXPORT(WidenToBf16);

float QuantizeRow(const float* from, int8_t* to, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(QuantizeF32)(from, to, n);
}
void Widen(const int8_t* from, float* to, int64_t n) { HWY_DYNAMIC_DISPATCH(WidenToF32)(from, to, n); }
void Widen(const int8_t* from, BFloat16* to, int64_t n) { HWY_DYNAMIC_DISPATCH(WidenToBf16)(from, to, n); }

}  // namespace internvl
#endif  // HWY_ONCE
