// Numbers for generated weights: a function of seed and index, so that every device makes the same ones.
#pragma once

#include <cstdint>

#include "everywhere.h"
#include "tensor.h"

namespace internvl {

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014) over a sequence that starts at `seed`: its upper
/// bits.
INTERNVL_EVERYWHERE inline uint32_t SeededBits(uint64_t seed, uint64_t index) {
  uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return static_cast<uint32_t>((z ^ (z >> 31)) >> 32);
}

/// Multiples of 2^-23 in [-1, 1): exact in float32.
INTERNVL_EVERYWHERE inline float SeededUniform(uint64_t seed, uint64_t index) {
  return static_cast<float>(static_cast<int32_t>(SeededBits(seed, index)) >> 8) * (1.0f / 8388608.0f);
}

/// Whole numbers of -127..127 for int8 weights; all rows of one then have the scale spread / 127.
INTERNVL_EVERYWHERE inline void SeededWeight(uint64_t seed, uint64_t index, int8_t& weight) {
  weight = static_cast<int8_t>(static_cast<int32_t>(SeededBits(seed, index) % 255u) - 127);
}
/// Numbers of [-448, 448) for float8 weights, whose rows have the scale spread / 448.
INTERNVL_EVERYWHERE inline void SeededWeight(uint64_t seed, uint64_t index, Float8& weight) {
  weight.bits = ToFloat8(kLargestFloat8 * SeededUniform(seed, index));
}

/// The scale that goes with them.
INTERNVL_EVERYWHERE inline float SeededScale(float spread, int8_t) { return spread / 127.0f; }
INTERNVL_EVERYWHERE inline float SeededScale(float spread, Float8) { return spread / kLargestFloat8; }

}  // namespace internvl
