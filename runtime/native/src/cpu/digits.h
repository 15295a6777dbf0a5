// A row of bfloat16 as whole numbers at a power of two of its own, each as digits of a byte: what products
// with int8 weights take, so that their sums are exact until they become float32.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "../tensor.h"
#include "pair_target.h"

namespace internvl {

constexpr int kDigits = 3;  // the lowest first
/// Bits of the whole numbers beside the sign: with one more, a first digit could be 128.
constexpr int kBits = 22;

/// The power of two that the numbers of a row are multiplied with to be below 2^kBits, and the one that
/// undoes it: NaN for a row that holds no number.
struct RowScale {
  float to = 0.0f, from = 0.0f;
};

inline RowScale ScaleOf(const BFloat16* x, int64_t k) {
  uint16_t largest = 0;
  for (int64_t i = 0; i < k; ++i) largest = std::max<uint16_t>(largest, x[i].bits & 0x7fff);
  const int exponent = largest >> 7;  // with a bias of 127
  if (exponent == 255) return {.to = 0.0f, .from = ToFloat(BFloat16{0x7fc0})};
  const auto power = [](int of) {
    const uint32_t bits = static_cast<uint32_t>(of + 127) << 23;
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  };
  // Rows of next to nothing stay that: a float32 holds 2^127 at most.
  const int shift = std::min(kBits - 1 - (exponent - 127), 126);
  return {.to = power(shift), .from = power(-shift)};
}

#if defined(__x86_64__)
/// What sums of each digit's products come to.
PAIR_INLINE __m512 Joined(const __m512i (&sums)[kDigits]) {
  const __m512 base = _mm512_set1_ps(256.0f);
  const __m512 upper = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[2]), base, _mm512_cvtepi32_ps(sums[1]));
  return _mm512_fmadd_ps(upper, base, _mm512_cvtepi32_ps(sums[0]));
}

/// The digits of `length` elements, a digit's `apart` bytes behind the one before, which is a multiple of 16;
/// up to a multiple of 16 zeros follow.
PAIR_TARGET inline void DigitsOf(const BFloat16* x, int64_t length, float scale, int8_t* digits,
                                 int64_t apart) {
  for (int64_t i = 0; i < length; i += 16) {
    const auto mask = static_cast<__mmask16>((uint32_t{1} << std::min<int64_t>(16, length - i)) - 1);
    const __m256i halves = _mm256_maskz_loadu_epi16(mask, x + i);
    const __m512 value = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
    __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(value, _mm512_set1_ps(scale)));
    for (int d = 0; d < kDigits; ++d) {
      // The digit nearest to what is left: -128 to 127, so the next one takes up the difference.
      _mm_storeu_si128(reinterpret_cast<__m128i*>(digits + d * apart + i), _mm512_cvtepi32_epi8(whole));
      whole = _mm512_srai_epi32(_mm512_add_epi32(whole, _mm512_set1_epi32(128)), 8);
    }
  }
}
#endif

}  // namespace internvl
