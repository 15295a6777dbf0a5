// Keys and values in the cache as e4m3: each row of a head has a scale by which its numbers are multiplied,
// found when the row is stored.
//
// Scales are powers of two. Numbers with an exponent of their own gain nothing from a scale that takes the
// largest to exactly 448: their steps are as fine below it. And of a power of two the products are exact, in
// bfloat16 too, so that attention over the cache is attention over certain keys and values, not near it.
#pragma once

#include <bit>
#include <cstdint>

#include "everywhere.h"

namespace internvl {

/// Kernels multiply by scales times 2^120, which must be a bfloat16: rows with numbers beyond 448 * 2^7 =
/// 57,344 are cut to that.
constexpr uint32_t kMostScaleExponent = 7;

/// The lowest power of two, of 2^-126 to 2^7, with which a row's numbers are within +-448. `largest`: the
/// bits of the row's largest magnitude, which as integers are ordered like it. NaN, which makes all of the
/// row NaN, where that is no number.
INTERNVL_EVERYWHERE inline float Float8RowScale(uint32_t largest) {
  constexpr uint32_t kInfinity = 0x7f800000u, kBias = 127, kExponentOf448 = 8;
  if (largest >= kInfinity) return std::bit_cast<float>(0x7fc00000u);
  // A fraction above that of 448 = 1.75 * 2^8 takes the next exponent.
  const uint32_t exponent = (largest + 0x1fffffu) >> 23;
  const uint32_t biased = exponent > kExponentOf448 ? exponent - kExponentOf448 : 1;
  constexpr uint32_t kMost = kBias + kMostScaleExponent;
  return std::bit_cast<float>((biased < kMost ? biased : kMost) << 23);
}

/// What rises with a number's magnitude, and is above all others of a NaN.
INTERNVL_EVERYWHERE inline uint32_t MagnitudeBits(float value) {
  return std::bit_cast<uint32_t>(value) & 0x7fffffffu;
}

}  // namespace internvl
