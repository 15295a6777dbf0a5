// e4m3 in the form that devices compute with ("e4m3fn"): a sign, 4 bits of exponent with a bias of 7, 3 of
// fraction. There are no infinities; the largest number is 448, and 0x7f and 0xff are NaN. Kernels convert
// several at a time: cuda/float8_pairs.h.
#pragma once

#include <bit>
#include <cstdint>

#include "everywhere.h"

namespace internvl {

constexpr float kLargestFloat8 = 448.0f;

/// Rounds to nearest, ties to even; beyond +-448, infinities included, +-448. A NaN becomes 0x7f.
INTERNVL_EVERYWHERE inline uint8_t ToFloat8(float value) {
  constexpr uint32_t kSmallestNormal = 0x3c800000u;  // 2^-6
  const uint32_t bits = std::bit_cast<uint32_t>(value), magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7f;
  const auto sign = static_cast<uint8_t>(bits >> 24 & 0x80u);
  if (magnitude >= std::bit_cast<uint32_t>(kLargestFloat8)) return sign | 0x7eu;
  if (magnitude < kSmallestNormal) {
    // Beside 2^14 a float has steps of 2^-9, as e4m3 has below its smallest normal number.
    const float stepped = std::bit_cast<float>(magnitude) + 16384.0f;
    return sign | static_cast<uint8_t>(std::bit_cast<uint32_t>(stepped) & 0xfu);
  }
  const uint32_t rounded = magnitude + 0x7ffffu + (magnitude >> 20 & 1u);
  return sign | static_cast<uint8_t>((rounded >> 20) - ((127u - 7u) << 3));
}

/// Exact.
INTERNVL_EVERYWHERE inline float FromFloat8(uint8_t code) {
  const uint32_t sign = uint32_t{code & 0x80u} << 24, exponent = code >> 3 & 0xfu, fraction = code & 7u;
  if ((code & 0x7fu) == 0x7fu) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-9f;
    return sign == 0 ? magnitude : -magnitude;
  }
  return std::bit_cast<float>(sign | (exponent + 127u - 7u) << 23 | fraction << 20);
}

/// What a row is multiplied by so that its largest magnitude `most` becomes 448; most / 448 takes it back. 0,
/// and so a row of zeros, where the quotient is no number or `most` is next to nothing; where `most` is not
/// finite, so is the scale, and every product with the row.
INTERNVL_EVERYWHERE inline float Float8Factor(float most) {
  return most > 0x1p-100f ? kLargestFloat8 / most : 0.0f;
}

}  // namespace internvl
