// Keys and values in the cache as e4m3: each row of a head has a scale by which its numbers are multiplied,
// found when the row is stored. It takes the row's largest number to e4m3's, which nearly always is the
// number that attention depends on most, and which is then kept almost as it was.
//
// Scales are rounded to bfloat16. Kernels widen e4m3 to bfloat16 by a product, in which the scale takes the
// place of a constant: it costs them nothing. What a row holds is that product, as the type of queries holds
// it: beside e4m3's own rounding, to 4 bits, that of the product, to 8, is nothing.
#pragma once

#include <bit>
#include <cstdint>

#include "everywhere.h"
#include "float8.h"

namespace internvl {

/// Kernels multiply by scales times 2^120, which must be a bfloat16. Numbers beyond 448 times it are cut to
/// that.
constexpr float kLargestRowScale = 255.0f;

/// What rises with a number's magnitude, and is above all others of a NaN.
INTERNVL_EVERYWHERE inline uint32_t MagnitudeBits(float value) {
  return std::bit_cast<uint32_t>(value) & 0x7fffffffu;
}

/// The scale of a row, given the largest MagnitudeBits of its numbers; a NaN, which makes all of the row NaN,
/// where that is no number.
INTERNVL_EVERYWHERE inline float Float8RowScale(uint32_t largest) {
  if (largest >= 0x7f800000u) return std::bit_cast<float>(0x7fc00000u);
  const uint32_t exact = std::bit_cast<uint32_t>(std::bit_cast<float>(largest) * (1.0f / kLargestFloat8));
  const float scale = std::bit_cast<float>((exact + 0x7fffu + (exact >> 16 & 1u)) & 0xffff0000u);
  constexpr float kSmallest = 0x1p-126f;  // of a row of zeros, say: its reciprocal is a number
  return scale < kSmallest ? kSmallest : scale < kLargestRowScale ? scale : kLargestRowScale;
}

}  // namespace internvl
