// How products of few rows read weights: 16 bytes at a time, each once.
#pragma once

#include "float8_pairs.h"
#include "packs.h"

namespace internvl::cuda {

__device__ inline float Widen(float value) { return value; }
__device__ inline float Widen(BFloat16 value) { return FromBits(value.bits); }
__device__ inline float Widen(int8_t value) { return value; }
__device__ inline float Widen(Float8 value) { return ToFloat(value); }

/// 16 bytes, aligned, that are not read again soon: they leave what is (x, the cache of keys and values)
/// where it is.
__device__ inline uint4 LoadOnce(const void* from) {
#ifdef __CUDACC__
  return __ldcs(static_cast<const uint4*>(from));
#else
  return *static_cast<const uint4*>(from);
#endif
}

/// Two bfloat16 as float32, the one at the lower address first.
__device__ inline void WidenPair(uint32_t pair, float* to) {
  to[0] = FromBits(pair);
  to[1] = __uint_as_float(pair & 0xffff0000u);
}

/// Four int8 as float32. A byte beside the exponent of 2^23 is 2^23 plus itself, which takes two cheap
/// instructions in place of a conversion, of which a multiprocessor does few at a time.
__device__ inline void WidenBytes(uint32_t bytes, float* to) {
  const uint32_t shifted = bytes ^ 0x80808080u;  // each plus 128
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    to[i] = __uint_as_float(__byte_perm(shifted, 0x4b000000u, 0x7650u + i)) - 8388736.0f;
  }
}

/// 16 bytes of a weight as float32.
__device__ inline void WidenVector(uint4 vector, float (&to)[4], const float*) {
  to[0] = __uint_as_float(vector.x), to[1] = __uint_as_float(vector.y);
  to[2] = __uint_as_float(vector.z), to[3] = __uint_as_float(vector.w);
}
__device__ inline void WidenVector(uint4 vector, float (&to)[8], const BFloat16*) {
  WidenPair(vector.x, to), WidenPair(vector.y, to + 2), WidenPair(vector.z, to + 4),
      WidenPair(vector.w, to + 6);
}
__device__ inline void WidenVector(uint4 vector, float (&to)[16], const int8_t*) {
  WidenBytes(vector.x, to), WidenBytes(vector.y, to + 4), WidenBytes(vector.z, to + 8),
      WidenBytes(vector.w, to + 12);
}

__device__ inline void WidenVector(uint4 vector, float (&to)[16], const Float8*) {
  const uint32_t fours[4] = {vector.x, vector.y, vector.z, vector.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    WidenFloat8(fours[i], to + 4 * i);
    WidenFloat8(fours[i] >> 16, to + 4 * i + 2);
  }
}

}  // namespace internvl::cuda
