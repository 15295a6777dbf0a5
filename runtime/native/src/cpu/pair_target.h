// What files with AVX512-BF16 intrinsics need: their functions are compiled for it whatever the build's
// target is, and called only where the processor has it.
#pragma once

#if defined(__x86_64__)
// The headers of GCC 12 leave the unused operand of some intrinsics unset on purpose, and warn of it.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#define PAIR_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define PAIR_INLINE PAIR_TARGET __attribute__((always_inline)) inline

namespace internvl {

/// Of two rows of 32 elements: the first 16 of both in pairs, and the last 16.
struct PairOrder {
  __m512i low, high;
};

PAIR_INLINE PairOrder InPairs() {
  // Element i of the first row, element i of the second one (from 32 on), element i + 1 ...
  const __m512i low = _mm512_add_epi32(
      _mm512_set1_epi32(32 << 16),
      _mm512_mullo_epi32(_mm512_set1_epi32(0x00010001),
                         _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)));
  return {low, _mm512_add_epi32(low, _mm512_set1_epi32(0x00100010))};
}

}  // namespace internvl
#endif
