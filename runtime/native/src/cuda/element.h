// Elements of tensors inside kernels: float32 is computed with, bfloat16 and int8 are widened to it.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../tensor.h"

namespace internvl::cuda {

__device__ inline float Widen(float value) { return value; }
__device__ inline float Widen(BFloat16 value) {
  return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
}
__device__ inline float Widen(int8_t value) { return value; }

/// Rounds as ToBFloat16 does.
__device__ inline BFloat16 NarrowToBFloat16(float value) {
  const uint32_t bits = __float_as_uint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

/// Element i of float32 or bfloat16 values.
__device__ inline float Load(const void* values, bool bfloat16, int64_t i) {
  return bfloat16 ? Widen(static_cast<const BFloat16*>(values)[i]) : static_cast<const float*>(values)[i];
}

}  // namespace internvl::cuda
