// Squares of 16 x 16 elements of 32 bits, turned in registers.
#pragma once

#include "pair_target.h"

#if defined(__x86_64__)
namespace internvl {

/// Rows become columns: of 16 float32 or of 16 pairs of bfloat16 each.
PAIR_INLINE void Transpose(const __m512i (&rows)[16], __m512i (&columns)[16]) {
  __m512i fours[4][4];  // [four rows][c]: their pairs c, c + 4, c + 8, c + 12
  for (int g = 0; g < 4; ++g) {
    const __m512i* r = rows + 4 * g;
    const __m512i low = _mm512_unpacklo_epi32(r[0], r[1]), high = _mm512_unpackhi_epi32(r[0], r[1]);
    const __m512i low2 = _mm512_unpacklo_epi32(r[2], r[3]), high2 = _mm512_unpackhi_epi32(r[2], r[3]);
    fours[g][0] = _mm512_unpacklo_epi64(low, low2);
    fours[g][1] = _mm512_unpackhi_epi64(low, low2);
    fours[g][2] = _mm512_unpacklo_epi64(high, high2);
    fours[g][3] = _mm512_unpackhi_epi64(high, high2);
  }
  for (int c = 0; c < 4; ++c) {
    const __m512i even = _mm512_shuffle_i32x4(fours[0][c], fours[1][c], 0x88);
    const __m512i even2 = _mm512_shuffle_i32x4(fours[2][c], fours[3][c], 0x88);
    const __m512i odd = _mm512_shuffle_i32x4(fours[0][c], fours[1][c], 0xdd);
    const __m512i odd2 = _mm512_shuffle_i32x4(fours[2][c], fours[3][c], 0xdd);
    columns[c] = _mm512_shuffle_i32x4(even, even2, 0x88);
    columns[c + 4] = _mm512_shuffle_i32x4(odd, odd2, 0x88);
    columns[c + 8] = _mm512_shuffle_i32x4(even, even2, 0xdd);
    columns[c + 12] = _mm512_shuffle_i32x4(odd, odd2, 0xdd);
  }
}

}  // namespace internvl
#endif
