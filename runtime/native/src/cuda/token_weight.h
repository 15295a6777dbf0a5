// What tokens weigh in a draw: exp((logit - most) / temperature), as whole multiples of 2^-44 of the largest
// weight, because whole numbers add up to the same sum in any order. The float32 arithmetic before that is of
// correctly rounded operations alone, so that every generation of devices, and the host, finds the same.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../token_draw.h"

namespace internvl::cuda {

/// Weights and their sums; atomics know this name of a 64-bit integer alone.
using Mass = unsigned long long;
constexpr int kMassBits = 44;
/// So many weights add up to less than 2^63.
constexpr int64_t kMostColumns = int64_t{1} << (62 - kMassBits);

/// Places in the order of float32 values, -0 and 0 at the same one.
__device__ inline uint32_t OrderOf(float value) {
  const uint32_t bits = __float_as_uint(value + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/// 2^x for x in [-0.51, 0.51], within 2^-23 of it.
__device__ inline float PowerOfTwo(float x) {
  // ln(2)^n / n!
  float sum = 1.5252734e-5f;
  sum = __fmaf_rn(sum, x, 1.5403530e-4f);
  sum = __fmaf_rn(sum, x, 1.3333558e-3f);
  sum = __fmaf_rn(sum, x, 9.6181291e-3f);
  sum = __fmaf_rn(sum, x, 5.5504109e-2f);
  sum = __fmaf_rn(sum, x, 2.4022651e-1f);
  sum = __fmaf_rn(sum, x, 6.9314718e-1f);
  return __fmaf_rn(sum, x, 1.0f);
}

/// From a logit to its weight.
struct Weigher {
  float most = 0;
  float scale = 0, scale_rest = 0;  // log2(e) / temperature as the sum of two

  Weigher() = default;
  __device__ Weigher(float most, double temperature) : most(most) {
    const double exact = 1.4426950408889634 / temperature;
    scale = static_cast<float>(exact);
    scale_rest = static_cast<float>(exact - scale);
  }

  /// The logarithm of the weight to base 2, about: at most 0, and it never falls while the logit rises.
  __device__ float Exponent(float logit) const { return __fmul_rn(__fsub_rn(logit, most), scale); }

  __device__ Mass operator()(float logit) const {
    const float exponent = Exponent(logit);
    if (!(exponent > -kMassBits - 1)) return 0;
    // What the difference and its product were rounded by.
    const float difference = __fsub_rn(logit, most);
    const float taken = __fsub_rn(difference, logit);
    const float lost = __fsub_rn(__fsub_rn(logit, __fsub_rn(difference, taken)), __fadd_rn(most, taken));
    float rest = __fmaf_rn(difference, scale, -exponent);
    rest = __fmaf_rn(difference, scale_rest, rest);
    rest = __fmaf_rn(lost, scale, rest);
    const float whole = rintf(exponent);
    const float power = PowerOfTwo(__fadd_rn(__fsub_rn(exponent, whole), rest));
    // 24 digits are all that it has.
    const auto digits = static_cast<uint32_t>(__fmul_rn(power, 16777216.0f));
    return Mass{digits} << (kMassBits - 24) >> static_cast<int>(-whole);
  }
};

}  // namespace internvl::cuda
