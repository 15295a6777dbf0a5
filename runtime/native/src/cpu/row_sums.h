// Sums across the lanes of vectors.
#pragma once

#include "pair_target.h"

#if defined(__x86_64__)
namespace internvl {

/// The sums of four vectors.
PAIR_INLINE __m128 SumsOf(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512 all =
      _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd))),
                    _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd))));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

/// Writes the sums of kCount vectors.
template <int kCount>
PAIR_INLINE void StoreSums(const __m512 (&of)[kCount], float* out) {
  for (int first = 0; first < kCount; first += 4) {
    const int count = kCount - first < 4 ? kCount - first : 4;
    __m512 four[4] = {};
    for (int n = 0; n < count; ++n) four[n] = of[first + n];
    _mm_mask_storeu_ps(out + first, static_cast<__mmask8>((1 << count) - 1),
                       SumsOf(four[0], four[1], four[2], four[3]));
  }
}

}  // namespace internvl
#endif
