// e4m3 in kernels, two at a time: devices from sm_89 on convert pairs of them in one instruction.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../float8.h"
#include "packs.h"

namespace internvl::cuda {

/// As ToFloat8 rounds, `low` in the lower byte.
__device__ inline uint16_t PackFloat8(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;\n" : "=h"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return static_cast<uint16_t>(ToFloat8(low) | ToFloat8(high) << 8);
#endif
}

/// The products of two pairs of bfloat16.
__device__ inline uint32_t ProductOfPairs(uint32_t pair, uint32_t factors) {
#ifdef __CUDACC__
  uint32_t product;  // plus -0, which changes no sign; sm_80 has no product alone
  asm("fma.rn.bf16x2 %0, %1, %2, %3;\n" : "=r"(product) : "r"(pair), "r"(factors), "r"(0x80008000u));
  return product;
#else
  return RoundedPair(FromBits(pair & 0xffffu) * FromBits(factors & 0xffffu),
                     FromBits(pair >> 16) * FromBits(factors >> 16));
#endif
}

/// Both bfloat16 of a pair times 2^120.
__device__ inline uint32_t TimesTwoTo120(uint32_t pair) { return ProductOfPairs(pair, 0x7b807b80u); }

/// Two e4m3, the lower bytes of `pair`, as float32, the lower one first. Exact, as what follows.
__device__ inline void WidenFloat8(uint32_t pair, float* to) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  asm("{\n"
      ".reg .b32 halves;\n"
      ".reg .f16 first, second;\n"
      "cvt.rn.f16x2.e4m3x2 halves, %2;\n"
      "mov.b32 {first, second}, halves;\n"
      "cvt.f32.f16 %0, first;\n"
      "cvt.f32.f16 %1, second;\n"
      "}\n"
      : "=f"(to[0]), "=f"(to[1])
      : "h"(static_cast<uint16_t>(pair)));
#else
  // Exponent and fraction at the places of bfloat16's stand for the number times 2^(7 - 127), subnormal ones
  // included.
  const uint32_t bytes = __byte_perm(pair, 0, 0x1404);
  const uint32_t magnitude = (bytes >> 4) & 0x07f007f0u;
  const uint32_t nan = (magnitude + 0x00100010u) & 0x08000800u;
  // A NaN's exponent becomes 255.
  const uint32_t wide = TimesTwoTo120((magnitude | (bytes & 0x80008000u)) + 15u * nan);
  to[0] = FromBits(wide);
  to[1] = __uint_as_float(wide & 0xffff0000u);
#endif
}

/// Two e4m3, the lower bytes of `pair`, as two bfloat16, in their order.
__device__ inline uint32_t Bf16OfFloat8(uint32_t pair) {
  float wide[2];
  WidenFloat8(pair, wide);
  // Their lower halves are zero.
  return __byte_perm(__float_as_uint(wide[0]), __float_as_uint(wide[1]), 0x7632);
}

/// Four e4m3 as two pairs of bfloat16.
__device__ inline void Bf16OfFloat8(uint32_t four, uint32_t (&pairs)[2]) {
  pairs[0] = Bf16OfFloat8(four);
  pairs[1] = Bf16OfFloat8(four >> 16);
}

/// Scales of two rows (float8_rows.h) as ScaledFloat8 takes them.
__device__ inline uint32_t ScaleFactors(float low, float high) {
  return __byte_perm(__float_as_uint(low * 0x1p120f), __float_as_uint(high * 0x1p120f), 0x7632);
}

/// Two e4m3 that are numbers, the upper bytes of both halves of `halves`, times their rows' scales, rounded
/// once: no more work than without scales, which take the place of 2^120.
__device__ inline uint32_t ScaledFloat8(uint32_t halves, uint32_t factors) {
  return ProductOfPairs(((halves >> 4) & 0x07f007f0u) | (halves & 0x80008000u), factors);
}

}  // namespace internvl::cuda
