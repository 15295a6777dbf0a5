#include "quantized_rows.h"

#include <algorithm>
#include <bit>
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

float QuantizeF32ToFloat8(const float* from, Float8* to, int64_t n) {
  const D d;
  const hn::RebindToUnsigned<D> du32;
  const hn::RebindToSigned<D> di32;
  const hn::Rebind<uint8_t, D> du8;
  const int64_t lanes = hn::Lanes(d);
  const auto without_sign = hn::Set(du32, 0x7fffffffu);
  const auto magnitude_at = [&](const float* p) {
    return hn::And(hn::BitCast(du32, hn::LoadU(d, p)), without_sign);
  };
  // As whole numbers infinities and NaNs are larger than any number: none is lost.
  auto larger = hn::Zero(du32);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) larger = hn::Max(larger, magnitude_at(from + i));
  uint32_t bits = hn::GetLane(hn::MaxOfLanes(du32, larger));
  for (; i < n; ++i) bits = std::max(bits, std::bit_cast<uint32_t>(from[i]) & 0x7fffffffu);
  const float most = std::bit_cast<float>(bits), factor = Float8Factor(most);
  // ToFloat8, of numbers up to 448.
  for (i = 0; i + lanes <= n; i += lanes) {
    const auto value = hn::BitCast(du32, hn::Mul(hn::LoadU(d, from + i), hn::Set(d, factor)));
    const auto magnitude = hn::And(value, without_sign);
    const auto stepped = hn::BitCast(du32, hn::Add(hn::BitCast(d, magnitude), hn::Set(d, 16384.0f)));
    const auto small = hn::And(stepped, hn::Set(du32, 0xfu));
    const auto odd = hn::And(hn::ShiftRight<20>(magnitude), hn::Set(du32, 1));
    const auto rounded = hn::ShiftRight<20>(hn::Add(hn::Add(magnitude, hn::Set(du32, 0x7ffffu)), odd));
    const auto large = hn::Sub(rounded, hn::Set(du32, 120u << 3));
    const auto code = hn::IfThenElse(hn::Lt(magnitude, hn::Set(du32, 0x3c800000u)), small, large);
    const auto sign = hn::And(hn::ShiftRight<24>(value), hn::Set(du32, 0x80u));
    hn::StoreU(hn::DemoteTo(du8, hn::BitCast(di32, hn::Or(sign, hn::Min(code, hn::Set(du32, 0x7eu))))), du8,
               reinterpret_cast<uint8_t*>(to + i));
  }
  for (; i < n; ++i) to[i].bits = ToFloat8(from[i] * factor);
  return most / kLargestFloat8;
}

template <typename Q>
HWY_INLINE void WidenRowToF32(const Q* from, float* to, int64_t n) {
  const D d;
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(LoadAt(d, from + i), d, to + i);
  for (; i < n; ++i) to[i] = LoadOne(from + i);
}

void WidenToF32(const int8_t* from, float* to, int64_t n) { WidenRowToF32(from, to, n); }
void WidenFloat8ToF32(const Float8* from, float* to, int64_t n) { WidenRowToF32(from, to, n); }

template <typename Q>
HWY_INLINE void WidenRowToBf16(const Q* from, BFloat16* to, int64_t n) {
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
  for (; i < n; ++i) to[i] = ToBFloat16(LoadOne(from + i));
}

void WidenToBf16(const int8_t* from, BFloat16* to, int64_t n) { WidenRowToBf16(from, to, n); }
void WidenFloat8ToBf16(const Float8* from, BFloat16* to, int64_t n) { WidenRowToBf16(from, to, n); }

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {

HWY_EXPORT(QuantizeF32);
HWY_EXPORT(WidenToF32);
HWY_EXPORT(WidenToBf16);
HWY_EXPORT(QuantizeF32ToFloat8);
HWY_EXPORT(WidenFloat8ToF32);
HWY_EXPORT(WidenFloat8ToBf16);

float QuantizeRow(const float* from, int8_t* to, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(QuantizeF32)(from, to, n);
}
void Widen(const int8_t* from, float* to, int64_t n) { HWY_DYNAMIC_DISPATCH(WidenToF32)(from, to, n); }
void Widen(const int8_t* from, BFloat16* to, int64_t n) { HWY_DYNAMIC_DISPATCH(WidenToBf16)(from, to, n); }

float QuantizeRow(const float* from, Float8* to, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(QuantizeF32ToFloat8)(from, to, n);
}
void Widen(const Float8* from, float* to, int64_t n) { HWY_DYNAMIC_DISPATCH(WidenFloat8ToF32)(from, to, n); }
void Widen(const Float8* from, BFloat16* to, int64_t n) {
  HWY_DYNAMIC_DISPATCH(WidenFloat8ToBf16)(from, to, n);
}

}  // namespace internvl
#endif  // HWY_ONCE
