// The exponential of softmax, for vectors of 16.
#pragma once

#include "pair_target.h"

#if defined(__x86_64__)
namespace internvl {

/// exp(x) for x <= 0, -infinity included: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2], within 2 ulp.
PAIR_INLINE __m512 Exp(__m512 x) {
  const __m512 whole = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
  __m512 rest = _mm512_fnmadd_ps(whole, _mm512_set1_ps(0.693359375f), x);
  rest = _mm512_fnmadd_ps(whole, _mm512_set1_ps(-2.12194440e-4f), rest);
  __m512 sum = _mm512_set1_ps(1.0f / 720);
  for (const float factor : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(factor));
  }
  // Where x is -infinity, so is `whole`, and `rest` no number.
  const __mmask16 some = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-104.0f), _CMP_NLT_UQ);
  return _mm512_maskz_scalef_ps(some, sum, whole);
}

}  // namespace internvl
#endif
