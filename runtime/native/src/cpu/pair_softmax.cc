#include "pair_softmax.h"

#include <algorithm>
#include <cmath>

#include "pair_target.h"
#include "weight_exp.h"

namespace internvl {

#if defined(__x86_64__)

PAIR_TARGET float PairWeights(const float* scores, int64_t seen, int64_t columns, float scale, float& maximum,
                              float& sum, BFloat16* weights) {
  const auto lanes = [seen](int64_t i) {
    return static_cast<__mmask16>((uint32_t{1} << std::clamp<int64_t>(seen - i, 0, 16)) - 1);
  };
  const __m512 factor = _mm512_set1_ps(scale), none = _mm512_set1_ps(-INFINITY);
  __m512 most = none;
  for (int64_t i = 0; i < seen; i += 16) {
    most = _mm512_max_ps(most, _mm512_mask_mul_ps(none, lanes(i), _mm512_loadu_ps(scores + i), factor));
  }
  const float highest = std::max(maximum, _mm512_reduce_max_ps(most));
  const __m512 shift = _mm512_set1_ps(highest);
  __m512 total = _mm512_setzero_ps();
  for (int64_t i = 0; i < columns; i += 16) {
    __m512 weight = _mm512_setzero_ps();
    if (i < seen) {
      const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(scores + i), factor);
      weight = _mm512_maskz_mov_ps(lanes(i), Exp(_mm512_sub_ps(scaled, shift)));
      total = _mm512_add_ps(total, weight);
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(weights + i), (__m256i)_mm512_cvtneps_pbh(weight));
  }
  if (seen <= 0) return 1.0f;
  const float shrink = maximum == highest ? 1.0f : std::exp(maximum - highest);  // 0 the first time
  maximum = highest;
  sum = sum * shrink + _mm512_reduce_add_ps(total);
  return shrink;
}

#else

float PairWeights(const float*, int64_t, int64_t, float, float&, float&, BFloat16*) { return 1.0f; }

#endif

}  // namespace internvl
