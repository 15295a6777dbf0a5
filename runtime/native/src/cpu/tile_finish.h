// What becomes of sums that lie as tiles leave them: a row for each weight row, a column for each row of x.
#pragma once

#include <cstdint>

#include "../tensor.h"
#include "tiles.h"
#include "transpose.h"

#if defined(__x86_64__)
namespace internvl {

constexpr int64_t kStrip = 16;  // rows of x in a tile
constexpr int64_t kPanel = 32;  // weight rows done together: two tiles

constexpr int64_t RoundUp(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

/// Where a panel's products end: up to kPanel columns of out from `column` on.
struct Columns {
  const float* scales;  // null: none
  const float* bias;    // null: none
  int64_t column, count;
};

/// One weight row's sums, scaled and with its bias: each rounded, as elsewhere.
TILE_INLINE __m512 Finished(const float* sums, const Columns& columns, int64_t n) {
  __m512 value = _mm512_loadu_ps(sums);
  if (n >= columns.count) return value;
  if (columns.scales != nullptr)
    value = _mm512_mul_ps(value, _mm512_set1_ps(columns.scales[columns.column + n]));
  if (columns.bias != nullptr) value = _mm512_add_ps(value, _mm512_set1_ps(columns.bias[columns.column + n]));
  return value;
}

/// Turns one strip of sums [kPanel][.] (sum_stride between weight rows) into `rows` rows of out.
TILE_TARGET inline void FinishStrip(const float* sums, int64_t sum_stride, const Columns& columns,
                                    int64_t rows, BFloat16* out, int64_t out_stride) {
  // Rounded first, each weight row beside the next: what is turned are then pairs, half as many.
  const __m512i beside = _mm512_add_epi32(
      _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
      _mm512_slli_epi32(_mm512_set_epi32(31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16),
                        16));
  __m512i pairs[16], by_row[16];
  for (int64_t n = 0; n < kPanel; n += 2) {
    const __m512 even = Finished(sums + n * sum_stride, columns, n);
    const __m512 odd = Finished(sums + (n + 1) * sum_stride, columns, n + 1);
    pairs[n / 2] = _mm512_permutexvar_epi16(beside, (__m512i)_mm512_cvtne2ps_pbh(odd, even));
  }
  Transpose(pairs, by_row);
  const auto mask = static_cast<__mmask32>((uint64_t{1} << columns.count) - 1);
  BFloat16* const to = out + columns.column;
  for (int64_t r = 0; r < rows; ++r) _mm512_mask_storeu_epi16(to + r * out_stride, mask, by_row[r]);
}

TILE_TARGET inline void FinishStrip(const float* sums, int64_t sum_stride, const Columns& columns,
                                    int64_t rows, float* out, int64_t out_stride) {
  for (int64_t half = 0; half < kPanel; half += 16) {
    __m512i by_weight[16], by_row[16];
    for (int64_t n = 0; n < 16; ++n) {
      by_weight[n] = _mm512_castps_si512(Finished(sums + (half + n) * sum_stride, columns, half + n));
    }
    Transpose(by_weight, by_row);
    const auto mask = static_cast<__mmask16>(((uint64_t{1} << columns.count) - 1) >> half);
    float* const to = out + columns.column + half;
    for (int64_t r = 0; r < rows; ++r) _mm512_mask_storeu_epi32(to + r * out_stride, mask, by_row[r]);
  }
}

}  // namespace internvl
#endif
