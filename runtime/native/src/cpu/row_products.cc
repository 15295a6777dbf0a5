#include "row_products.h"

#include <type_traits>

// foreach_target compiles what follows it once per instruction set: the order of these includes matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/row_products.cc"
#include <hwy/foreach_target.h>
#include "row_loads-inl.h"
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {

// Calls what lies one block of kWeights rows further: a processor foresees reads only up to the end of a
// page.
template <int kWeights, typename W>
HWY_INLINE void Foresee(const W* at, int64_t w_stride) {
  __builtin_prefetch(at + kWeights * w_stride, 0, 3);
}

// Products of kRows rows of x with kWeights rows of the weight: every vector that is loaded is used several
// times.
template <int kRows, int kWeights, typename W>
HWY_INLINE void DotBlock(const float* x, int64_t k, const W* w, int64_t w_stride, float* out,
                         int64_t out_stride) {
  const D d;
  const int64_t lanes = hn::Lanes(d);
  V sums[kRows][kWeights];
  for (int t = 0; t < kRows; ++t) {
    for (int n = 0; n < kWeights; ++n) sums[t][n] = hn::Zero(d);
  }
  int64_t i = 0;
  for (; i + lanes <= k; i += lanes) {
    V factors[kWeights];
    for (int n = 0; n < kWeights; ++n) {
      factors[n] = LoadAt(d, w + n * w_stride + i);
      Foresee<kWeights>(w + n * w_stride + i, w_stride);
    }
    for (int t = 0; t < kRows; ++t) {
      const V value = hn::LoadU(d, x + t * k + i);
      for (int n = 0; n < kWeights; ++n) sums[t][n] = hn::MulAdd(value, factors[n], sums[t][n]);
    }
  }
  for (int t = 0; t < kRows; ++t) {
    for (int n = 0; n < kWeights; ++n) {
      float sum = hn::GetLane(hn::SumOfLanes(d, sums[t][n]));
      for (int64_t j = i; j < k; ++j) sum += x[t * k + j] * LoadOne(w + n * w_stride + j);
      out[t * out_stride + n] = sum;
    }
  }
}

#if HWY_TARGET != HWY_SCALAR
// The same for bfloat16 weights where registers suffice: whole vectors of them are read and taken apart into
// even and odd elements, by a shift and a mask, instead of being widened half a vector at a time; x is put in
// that order once for all weights.
template <int kRows, int kWeights>
HWY_INLINE void DotPairs(const float* x, int64_t k, const BFloat16* w, int64_t w_stride, float* out,
                         int64_t out_stride) {
  const D d;
  const hn::RebindToUnsigned<D> bits;
  const hn::Repartition<uint16_t, D> halves;
  const auto upper = hn::Set(bits, 0xFFFF0000u);
  const int64_t lanes = hn::Lanes(d);
  V sums[kRows][kWeights];
  for (int t = 0; t < kRows; ++t) {
    for (int n = 0; n < kWeights; ++n) sums[t][n] = hn::Zero(d);
  }
  int64_t i = 0;
  for (; i + 2 * lanes <= k; i += 2 * lanes) {
    V even[kRows], odd[kRows];
    for (int t = 0; t < kRows; ++t) {
      const V low = hn::LoadU(d, x + t * k + i), high = hn::LoadU(d, x + t * k + i + lanes);
      even[t] = hn::ConcatEven(d, high, low);
      odd[t] = hn::ConcatOdd(d, high, low);
    }
    for (int n = 0; n < kWeights; ++n) {
      const BFloat16* at = w + n * w_stride + i;
      Foresee<kWeights>(at, w_stride);
      const auto pairs = hn::BitCast(bits, hn::LoadU(halves, reinterpret_cast<const uint16_t*>(at)));
      const V evens = hn::BitCast(d, hn::ShiftLeft<16>(pairs)), odds = hn::BitCast(d, hn::And(pairs, upper));
      for (int t = 0; t < kRows; ++t) {
        sums[t][n] = hn::MulAdd(even[t], evens, sums[t][n]);
        sums[t][n] = hn::MulAdd(odd[t], odds, sums[t][n]);
      }
    }
  }
  for (int t = 0; t < kRows; ++t) {
    for (int n = 0; n < kWeights; ++n) {
      float sum = hn::GetLane(hn::SumOfLanes(d, sums[t][n]));
      for (int64_t j = i; j < k; ++j) sum += x[t * k + j] * LoadOne(w + n * w_stride + j);
      out[t * out_stride + n] = sum;
    }
  }
}
#endif

template <int kRows, typename W>
HWY_INLINE void DotStrip(const float* x, int64_t k, const W* w, int64_t w_stride, int64_t weights, float* out,
                         int64_t out_stride) {
  // As many sums as there are registers for, beside the factors: 16 registers before AVX-512.
  constexpr int kWeights = kRows == 1 ? 8 : kRows >= 3 && HWY_TARGET > HWY_AVX3 ? 3 : 4;
  int64_t n = 0;
#if HWY_TARGET != HWY_SCALAR
  if constexpr (std::is_same_v<W, BFloat16> && (kRows == 1 || HWY_TARGET <= HWY_AVX3)) {
    for (; n + kWeights <= weights; n += kWeights) {
      DotPairs<kRows, kWeights>(x, k, w + n * w_stride, w_stride, out + n, out_stride);
    }
  }
#endif
  for (; n + kWeights <= weights; n += kWeights) {
    DotBlock<kRows, kWeights>(x, k, w + n * w_stride, w_stride, out + n, out_stride);
  }
  for (; n + 2 <= weights; n += 2) DotBlock<kRows, 2>(x, k, w + n * w_stride, w_stride, out + n, out_stride);
  if (n < weights) DotBlock<kRows, 1>(x, k, w + n * w_stride, w_stride, out + n, out_stride);
}

template <typename W>
HWY_INLINE void DotRowsOf(const float* x, int64_t rows, int64_t k, const W* w, int64_t w_stride,
                          int64_t weights, float* out, int64_t out_stride) {
  for (; rows >= 4; rows -= 4, x += 4 * k, out += 4 * out_stride)
    DotStrip<4>(x, k, w, w_stride, weights, out, out_stride);
  if (rows == 3) DotStrip<3>(x, k, w, w_stride, weights, out, out_stride);
  if (rows == 2) DotStrip<2>(x, k, w, w_stride, weights, out, out_stride);
  if (rows == 1) DotStrip<1>(x, k, w, w_stride, weights, out, out_stride);
}

void DotRowsF32(const float* x, int64_t rows, int64_t k, const float* w, int64_t w_stride, int64_t weights,
                float* out, int64_t out_stride) {
  DotRowsOf(x, rows, k, w, w_stride, weights, out, out_stride);
}
void DotRowsBf16(const float* x, int64_t rows, int64_t k, const BFloat16* w, int64_t w_stride,
                 int64_t weights, float* out, int64_t out_stride) {
  DotRowsOf(x, rows, k, w, w_stride, weights, out, out_stride);
}

void DotRowsInt8(const float* x, int64_t rows, int64_t k, const int8_t* w, int64_t w_stride, int64_t weights,
                 float* out, int64_t out_stride) {
  DotRowsOf(x, rows, k, w, w_stride, weights, out, out_stride);
}

void DotRowsFloat8(const float* x, int64_t rows, int64_t k, const Float8* w, int64_t w_stride,
                   int64_t weights, float* out, int64_t out_stride) {
  DotRowsOf(x, rows, k, w, w_stride, weights, out, out_stride);
}

// out [kRows, width] += p [kRows, count] * v [count, width]; a strip of the outputs stays in registers.
template <int kRows, typename X>
HWY_INLINE void MixStrip(const float* p, int64_t p_stride, const X* v, int64_t v_stride, int64_t count,
                         int64_t width, float* out) {
  const D d;
  const int64_t lanes = hn::Lanes(d);
  int64_t j = 0;
  for (; j + 2 * lanes <= width; j += 2 * lanes) {
    V low[kRows], high[kRows];
    for (int t = 0; t < kRows; ++t) {
      low[t] = hn::LoadU(d, out + t * width + j);
      high[t] = hn::LoadU(d, out + t * width + j + lanes);
    }
    for (int64_t i = 0; i < count; ++i) {
      const V first = LoadAt(d, v + i * v_stride + j), second = LoadAt(d, v + i * v_stride + j + lanes);
      for (int t = 0; t < kRows; ++t) {
        const V factor = hn::Set(d, p[t * p_stride + i]);
        low[t] = hn::MulAdd(factor, first, low[t]);
        high[t] = hn::MulAdd(factor, second, high[t]);
      }
    }
    for (int t = 0; t < kRows; ++t) {
      hn::StoreU(low[t], d, out + t * width + j);
      hn::StoreU(high[t], d, out + t * width + j + lanes);
    }
  }
  for (; j < width; ++j) {
    for (int t = 0; t < kRows; ++t) {
      for (int64_t i = 0; i < count; ++i)
        out[t * width + j] += p[t * p_stride + i] * LoadOne(v + i * v_stride + j);
    }
  }
}

template <typename X>
HWY_INLINE void MixRowsOf(const float* p, int64_t rows, int64_t p_stride, const X* v, int64_t v_stride,
                          int64_t count, int64_t width, float* out) {
  for (; rows >= 4; rows -= 4, p += 4 * p_stride, out += 4 * width)
    MixStrip<4>(p, p_stride, v, v_stride, count, width, out);
  if (rows == 3) MixStrip<3>(p, p_stride, v, v_stride, count, width, out);
  if (rows == 2) MixStrip<2>(p, p_stride, v, v_stride, count, width, out);
  if (rows == 1) MixStrip<1>(p, p_stride, v, v_stride, count, width, out);
}

void MixRowsF32(const float* p, int64_t rows, int64_t p_stride, const float* v, int64_t v_stride,
                int64_t count, int64_t width, float* out) {
  MixRowsOf(p, rows, p_stride, v, v_stride, count, width, out);
}
void MixRowsBf16(const float* p, int64_t rows, int64_t p_stride, const BFloat16* v, int64_t v_stride,
                 int64_t count, int64_t width, float* out) {
  MixRowsOf(p, rows, p_stride, v, v_stride, count, width, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {

HWY_EXPORT(DotRowsF32);
HWY_EXPORT(DotRowsBf16);
HWY_EXPORT(DotRowsInt8);
HWY_EXPORT(DotRowsFloat8);
HWY_EXPORT(MixRowsF32);
HWY_EXPORT(MixRowsBf16);

void DotRows(const float* x, int64_t rows, int64_t k, const float* w, int64_t w_stride, int64_t weights,
             float* out, int64_t out_stride) {
  HWY_DYNAMIC_DISPATCH(DotRowsF32)(x, rows, k, w, w_stride, weights, out, out_stride);
}
void DotRows(const float* x, int64_t rows, int64_t k, const BFloat16* w, int64_t w_stride, int64_t weights,
             float* out, int64_t out_stride) {
  HWY_DYNAMIC_DISPATCH(DotRowsBf16)(x, rows, k, w, w_stride, weights, out, out_stride);
}
void DotRows(const float* x, int64_t rows, int64_t k, const int8_t* w, int64_t w_stride, int64_t weights,
             float* out, int64_t out_stride) {
  HWY_DYNAMIC_DISPATCH(DotRowsInt8)(x, rows, k, w, w_stride, weights, out, out_stride);
}
void DotRows(const float* x, int64_t rows, int64_t k, const Float8* w, int64_t w_stride, int64_t weights,
             float* out, int64_t out_stride) {
  HWY_DYNAMIC_DISPATCH(DotRowsFloat8)(x, rows, k, w, w_stride, weights, out, out_stride);
}
void MixRows(const float* p, int64_t rows, int64_t p_stride, const float* v, int64_t v_stride, int64_t count,
             int64_t width, float* out) {
  HWY_DYNAMIC_DISPATCH(MixRowsF32)(p, rows, p_stride, v, v_stride, count, width, out);
}
void MixRows(const float* p, int64_t rows, int64_t p_stride, const BFloat16* v, int64_t v_stride,
             int64_t count, int64_t width, float* out) {
  HWY_DYNAMIC_DISPATCH(MixRowsBf16)(p, rows, p_stride, v, v_stride, count, width, out);
}

}  // namespace internvl
#endif  // HWY_ONCE
