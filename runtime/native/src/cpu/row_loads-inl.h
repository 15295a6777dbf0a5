// Loads of rows as float32 vectors, for every instruction set that row math is compiled
// for.

// An include guard per target, as Highway's foreach_target asks for.
#if defined(INTERNVL_ROW_LOADS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef INTERNVL_ROW_LOADS_INL_H_
#undef INTERNVL_ROW_LOADS_INL_H_
#else
#define INTERNVL_ROW_LOADS_INL_H_
#endif

#include <hwy/highway.h>

#include "../tensor.h"

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

HWY_INLINE V LoadAt(D d, const float* p) { return hn::LoadU(d, p); }
HWY_INLINE V LoadAt(D d, const BFloat16* p) {
  const hn::Repartition<uint32_t, D> du32;
  const hn::Rebind<uint16_t, D> du16;
  return hn::BitCast(
      d, hn::ShiftLeft<16>(hn::PromoteTo(du32, hn::LoadU(du16, reinterpret_cast<const uint16_t*>(p)))));
}
HWY_INLINE V LoadAt(D d, const int8_t* p) {
  const hn::RebindToSigned<D> di32;
  const hn::Rebind<int8_t, D> di8;
  return hn::ConvertTo(d, hn::PromoteTo(di32, hn::LoadU(di8, p)));
}
// Exponent and fraction at the places of a float's stand for the number times 2^(7 - 127). A NaN becomes 480.
HWY_INLINE V LoadAt(D d, const Float8* p) {
  const hn::RebindToUnsigned<D> du32;
  const hn::Rebind<uint8_t, D> du8;
  const auto codes = hn::PromoteTo(du32, hn::LoadU(du8, reinterpret_cast<const uint8_t*>(p)));
  const auto sign = hn::And(hn::ShiftLeft<24>(codes), hn::Set(du32, 0x80000000u));
  const auto magnitude = hn::ShiftLeft<20>(hn::And(codes, hn::Set(du32, 0x7fu)));
  return hn::Mul(hn::BitCast(d, hn::Or(sign, magnitude)), hn::Set(d, 0x1p120f));
}
HWY_INLINE float LoadOne(const float* p) { return *p; }
HWY_INLINE float LoadOne(const BFloat16* p) { return ToFloat(*p); }
HWY_INLINE float LoadOne(const int8_t* p) { return *p; }
HWY_INLINE float LoadOne(const Float8* p) { return ToFloat(*p); }

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
