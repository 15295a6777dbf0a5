#include "row_math.h"

#include <cmath>
#include <cstring>
#include <type_traits>

// foreach_target compiles what follows it once per instruction set: the order of these includes matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/row_math.cc"
#include <hwy/foreach_target.h>
#include "row_loads-inl.h"
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The float32 bits rounded to the nearest bfloat16, ties to even, in the upper half; a NaN stays a quiet NaN.
HWY_INLINE hn::Vec<hn::Repartition<uint32_t, D>> RoundedBits(D d, V v) {
  const hn::Repartition<uint32_t, D> du;
  const auto bits = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(du, 0x7fff)), odd);
  const auto nan = hn::BitCast(du, hn::VecFromMask(d, hn::IsNaN(v)));
  const auto quiet = hn::Or(bits, hn::Set(du, 0x400000));
  return hn::Or(hn::And(nan, quiet), hn::AndNot(nan, rounded));
}

void WidenBf16(const BFloat16* from, float* to, int64_t n) {
  const D d;
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(LoadAt(d, from + i), d, to + i);
  for (; i < n; ++i) to[i] = ToFloat(from[i]);
}

HWY_INLINE V RoundedBf16(D d, V v) {
  return hn::BitCast(d, hn::And(RoundedBits(d, v), hn::Set(hn::Repartition<uint32_t, D>(), 0xffff0000u)));
}

template <typename T>
HWY_INLINE V RoundedTo(D d, V v) {
  if constexpr (std::is_same_v<T, float>) {
    return v;
  } else {
    return RoundedBf16(d, v);
  }
}

HWY_INLINE void StoreAt(V v, D d, float* to) { hn::StoreU(v, d, to); }
HWY_INLINE void StoreAt(V v, D d, BFloat16* to) {
  const hn::Rebind<uint16_t, D> du16;
  const hn::RebindToSigned<decltype(du16)> di16;
  const hn::RebindToSigned<hn::Repartition<uint32_t, D>> di32;
  // An arithmetic shift keeps the value inside int16, so that the saturating demotion takes the upper half as
  // it is.
  const auto upper = hn::ShiftRight<16>(hn::BitCast(di32, RoundedBits(d, v)));
  hn::StoreU(hn::BitCast(du16, hn::DemoteTo(di16, upper)), du16, reinterpret_cast<uint16_t*>(to));
}

void NarrowBf16(const float* from, BFloat16* to, int64_t n) {
  const D d;
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) StoreAt(hn::LoadU(d, from + i), d, to + i);
  for (; i < n; ++i) to[i] = ToBFloat16(from[i]);
}

void RoundBf16(float* row, int64_t n) {
  const D d;
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(RoundedBf16(d, hn::LoadU(d, row + i)), d, row + i);
  }
  for (; i < n; ++i) row[i] = Rounded<BFloat16>(row[i]);
}

float SumSquaresF32(const float* x, int64_t n) {
  const D d;
  const int64_t lanes = hn::Lanes(d);
  V sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d),
               hn::Zero(d)};  // several, to hide the latency of the additions
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    for (int j = 0; j < 4; ++j) {
      const V v = hn::LoadU(d, x + i + j * lanes);
      sums[j] = hn::MulAdd(v, v, sums[j]);
    }
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]))));
  for (; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

float SumF32(const float* x, int64_t n) {
  const D d;
  const int64_t lanes = hn::Lanes(d);
  V a = hn::Zero(d), b = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    a = hn::Add(a, hn::LoadU(d, x + i));
    b = hn::Add(b, hn::LoadU(d, x + i + lanes));
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(a, b)));
  for (; i < n; ++i) sum += x[i];
  return sum;
}

float MaxF32(const float* x, int64_t n) {
  const D d;
  const int64_t lanes = hn::Lanes(d);
  V a = hn::Set(d, -INFINITY);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) a = hn::Max(a, hn::LoadU(d, x + i));
  float max = hn::GetLane(hn::MaxOfLanes(d, a));
  for (; i < n; ++i) max = x[i] > max ? x[i] : max;
  return max;
}

// Loads, maps and stores every element; the tail goes through a padded vector, so that all elements see the
// same arithmetic.
template <typename F>
HWY_INLINE void MapInPlace(float* x, int64_t n, F f) {
  const D d;
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(f(hn::LoadU(d, x + i)), d, x + i);
  if (i == n) return;
  HWY_ALIGN float tail[hn::MaxLanes(D())] = {};
  std::memcpy(tail, x + i, static_cast<size_t>(n - i) * sizeof(float));
  hn::Store(f(hn::Load(d, tail)), d, tail);
  std::memcpy(x + i, tail, static_cast<size_t>(n - i) * sizeof(float));
}

void AffineF32(float a, float b, float* x, int64_t n) {
  const D d;
  const V factor = hn::Set(d, a), term = hn::Set(d, b);
  MapInPlace(x, n, [=](V v) HWY_ATTR { return hn::MulAdd(factor, v, term); });
}

void MulF32(const float* x, float* y, int64_t n) {
  const D d;
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
  for (; i < n; ++i) y[i] *= x[i];
}

void AddF32(const float* x, float* y, int64_t n) {
  const D d;
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
  for (; i < n; ++i) y[i] += x[i];
}

float ExpF32(float* x, float shift, int64_t n) {
  const D d;
  const V subtract = hn::Set(d, shift);
  MapInPlace(x, n, [=](V v) HWY_ATTR { return hn::Exp(d, hn::Sub(v, subtract)); });
  return SumF32(x, n);
}

// erf as x * P(x^2) / Q(x^2) on [-4, 4], beyond which float32 erf is +-1.
HWY_INLINE V Erf(D d, V x) {
  const V limit = hn::Set(d, 4.0f);
  x = hn::Min(hn::Max(x, hn::Neg(limit)), limit);
  const V x2 = hn::Mul(x, x);
  V p = hn::Set(d, -2.72614225801306e-10f);
  p = hn::MulAdd(p, x2, hn::Set(d, 2.77068142495902e-08f));
  p = hn::MulAdd(p, x2, hn::Set(d, -2.10102402082508e-06f));
  p = hn::MulAdd(p, x2, hn::Set(d, -5.69250639462346e-05f));
  p = hn::MulAdd(p, x2, hn::Set(d, -7.34990630326855e-04f));
  p = hn::MulAdd(p, x2, hn::Set(d, -2.95459980854025e-03f));
  p = hn::MulAdd(p, x2, hn::Set(d, -1.60960333262415e-02f));
  V q = hn::Set(d, -1.45660718464996e-05f);
  q = hn::MulAdd(q, x2, hn::Set(d, -2.13374055278905e-04f));
  q = hn::MulAdd(q, x2, hn::Set(d, -1.68282697438203e-03f));
  q = hn::MulAdd(q, x2, hn::Set(d, -7.37332916720468e-03f));
  q = hn::MulAdd(q, x2, hn::Set(d, -1.42647390514189e-02f));
  return hn::Div(hn::Mul(x, p), q);
}

void GeluF32(float* x, int64_t n) {
  const D d;
  const V half = hn::Set(d, 0.5f), one = hn::Set(d, 1.0f), root = hn::Set(d, 0.70710678118654752440f);
  MapInPlace(x, n,
             [=](V v) HWY_ATTR { return hn::Mul(hn::Mul(v, half), hn::Add(one, Erf(d, hn::Mul(v, root)))); });
}

// Of two rows of the same length, in place: a pair rotates by the angle of its cosine and sine. Products are
// rounded to T before they meet, as what they become is.
template <typename T>
HWY_INLINE void RotateOf(T* low, T* high, const float* cos, const float* sin, int64_t n) {
  const D d;
  const int64_t lanes = hn::Lanes(d);
  const auto round = [=](V v) HWY_ATTR { return RoundedTo<T>(d, v); };
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const V a = LoadAt(d, low + i), b = LoadAt(d, high + i), c = hn::LoadU(d, cos + i),
            s = hn::LoadU(d, sin + i);
    StoreAt(hn::Sub(round(hn::Mul(a, c)), round(hn::Mul(b, s))), d, low + i);
    StoreAt(hn::Add(round(hn::Mul(b, c)), round(hn::Mul(a, s))), d, high + i);
  }
  for (; i < n; ++i) {
    const float a = ToFloat(low[i]), b = ToFloat(high[i]);
    low[i] = FromFloat<T>(Rounded<T>(a * cos[i]) - Rounded<T>(b * sin[i]));
    high[i] = FromFloat<T>(Rounded<T>(b * cos[i]) + Rounded<T>(a * sin[i]));
  }
}

void RotateF32(float* low, float* high, const float* cos, const float* sin, int64_t n) {
  RotateOf(low, high, cos, sin, n);
}
void RotateBf16(BFloat16* low, BFloat16* high, const float* cos, const float* sin, int64_t n) {
  RotateOf(low, high, cos, sin, n);
}

// out = round(gate / (1 + exp(-gate))) * up, in one pass.
template <typename T>
HWY_INLINE void SiluMulOf(const T* gate, const T* up, T* out, int64_t n) {
  const D d;
  // Beyond 88 the divisor is near float32's largest value already, and Exp is not defined far above it.
  const V one = hn::Set(d, 1.0f), limit = hn::Set(d, 88.0f);
  const auto of = [=](V g, V u) HWY_ATTR {
    const V silu = hn::Div(g, hn::Add(one, hn::Exp(d, hn::Min(hn::Neg(g), limit))));
    return hn::Mul(RoundedTo<T>(d, silu), u);
  };
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) StoreAt(of(LoadAt(d, gate + i), LoadAt(d, up + i)), d, out + i);
  if (i == n) return;
  T tail[3][hn::MaxLanes(D())] = {};
  const auto bytes = static_cast<size_t>(n - i) * sizeof(T);
  std::memcpy(tail[0], gate + i, bytes);
  std::memcpy(tail[1], up + i, bytes);
  StoreAt(of(LoadAt(d, tail[0]), LoadAt(d, tail[1])), d, tail[2]);
  std::memcpy(out + i, tail[2], bytes);
}

void SiluMulF32(const float* gate, const float* up, float* out, int64_t n) { SiluMulOf(gate, up, out, n); }
void SiluMulBf16(const BFloat16* gate, const BFloat16* up, BFloat16* out, int64_t n) {
  SiluMulOf(gate, up, out, n);
}

int64_t Target() { return HWY_TARGET; }

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {

HWY_EXPORT(WidenBf16);
HWY_EXPORT(NarrowBf16);
HWY_EXPORT(RoundBf16);
HWY_EXPORT(SumF32);
HWY_EXPORT(SumSquaresF32);
HWY_EXPORT(MaxF32);
HWY_EXPORT(AffineF32);
HWY_EXPORT(MulF32);
HWY_EXPORT(AddF32);
HWY_EXPORT(ExpF32);
HWY_EXPORT(GeluF32);
HWY_EXPORT(SiluMulF32);
HWY_EXPORT(SiluMulBf16);
HWY_EXPORT(RotateF32);
HWY_EXPORT(RotateBf16);
HWY_EXPORT(Target);

void Widen(const float* from, float* to, int64_t n) {
  std::memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
}
void Widen(const BFloat16* from, float* to, int64_t n) { HWY_DYNAMIC_DISPATCH(WidenBf16)(from, to, n); }
void Narrow(const float* from, float* to, int64_t n) {
  std::memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
}
void Narrow(const float* from, BFloat16* to, int64_t n) { HWY_DYNAMIC_DISPATCH(NarrowBf16)(from, to, n); }

template <>
void RoundRow<float>(float*, int64_t) {}
template <>
void RoundRow<BFloat16>(float* row, int64_t n) {
  HWY_DYNAMIC_DISPATCH(RoundBf16)(row, n);
}

float Sum(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(SumF32)(x, n); }
float SumSquares(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(SumSquaresF32)(x, n); }
float Max(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(MaxF32)(x, n); }
void AffineRow(float a, float b, float* x, int64_t n) { HWY_DYNAMIC_DISPATCH(AffineF32)(a, b, x, n); }
void MulRow(const float* x, float* y, int64_t n) { HWY_DYNAMIC_DISPATCH(MulF32)(x, y, n); }
void AddRow(const float* x, float* y, int64_t n) { HWY_DYNAMIC_DISPATCH(AddF32)(x, y, n); }
float ExpRow(float* x, float shift, int64_t n) { return HWY_DYNAMIC_DISPATCH(ExpF32)(x, shift, n); }
void GeluRow(float* x, int64_t n) { HWY_DYNAMIC_DISPATCH(GeluF32)(x, n); }
void SiluMulRow(const float* gate, const float* up, float* out, int64_t n) {
  HWY_DYNAMIC_DISPATCH(SiluMulF32)(gate, up, out, n);
}
void SiluMulRow(const BFloat16* gate, const BFloat16* up, BFloat16* out, int64_t n) {
  HWY_DYNAMIC_DISPATCH(SiluMulBf16)(gate, up, out, n);
}
void RotateRows(float* low, float* high, const float* cos, const float* sin, int64_t n) {
  HWY_DYNAMIC_DISPATCH(RotateF32)(low, high, cos, sin, n);
}
void RotateRows(BFloat16* low, BFloat16* high, const float* cos, const float* sin, int64_t n) {
  HWY_DYNAMIC_DISPATCH(RotateBf16)(low, high, cos, sin, n);
}

const char* RowMathIsa() {
  const int64_t target = HWY_DYNAMIC_DISPATCH(Target)();
  // Highway's targets: the smaller the bit, the better the instruction set.
  if (target <= HWY_AVX3) return "avx512";
  return target <= HWY_AVX2 ? "avx2" : "scalar";
}

void LimitRowMathIsa(const char* isa) {
  constexpr int64_t kAboveAvx2 = HWY_AVX2 - 1;  // the bits of every better target
  if (std::strcmp(isa, "avx2") == 0) hwy::DisableTargets(kAboveAvx2);
  if (std::strcmp(isa, "scalar") == 0) hwy::DisableTargets((HWY_SSSE3 << 1) - 1);
}

}  // namespace internvl
#endif  // HWY_ONCE
