// What becomes of sums that lie as tiles leave them: a row for each weight row, a column for each row of x.
#pragma once

#include <cstdint>
#include <type_traits>

#include "../tensor.h"
#include "tiles.h"
#include "transpose.h"

#if defined(__x86_64__)
namespace internvl {

constexpr int64_t kStrip = 16;  // rows of x in a tile
constexpr int64_t kPanel = 32;  // weight rows done together: two tiles

/// Where a panel's products end: up to kPanel columns of out from `column` on.
struct Columns {
  const float* scales;  // null: none
  const float* bias;    // null: none
  int64_t column, count;
};

template <typename T>
TILE_INLINE void Store(__m512 first, __m512 second, const Columns& columns, T* to) {
  const auto mask = static_cast<__mmask32>((uint64_t{1} << columns.count) - 1);
  if constexpr (std::is_same_v<T, float>) {
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>(mask), first);
    _mm512_mask_storeu_ps(to + 16, static_cast<__mmask16>(mask >> 16), second);
  } else {
    _mm512_mask_storeu_epi16(to, mask, (__m512i)_mm512_cvtne2ps_pbh(second, first));
  }
}

/// Turns one strip of sums [kPanel][.] (sum_stride between weight rows) into `rows` rows of out.
template <typename T>
TILE_TARGET inline void FinishStrip(const float* sums, int64_t sum_stride, const Columns& columns,
                                    int64_t rows, T* out, int64_t out_stride) {
  __m512i products[2][16];
  for (int half = 0; half < 2; ++half) {
    __m512i by_weight[16];
    for (int n = 0; n < 16; ++n) by_weight[n] = _mm512_loadu_si512(sums + (half * kStrip + n) * sum_stride);
    Transpose(by_weight, products[half]);
  }
  const auto mask = static_cast<__mmask32>((uint64_t{1} << columns.count) - 1);
  const auto low = static_cast<__mmask16>(mask), high = static_cast<__mmask16>(mask >> 16);
  const __m512 one = _mm512_set1_ps(1.0f), zero = _mm512_setzero_ps();
  __m512 scale[2] = {one, one}, bias[2] = {zero, zero};
  if (columns.scales != nullptr) {
    scale[0] = _mm512_maskz_loadu_ps(low, columns.scales + columns.column);
    scale[1] = _mm512_maskz_loadu_ps(high, columns.scales + columns.column + 16);
  }
  if (columns.bias != nullptr) {
    bias[0] = _mm512_maskz_loadu_ps(low, columns.bias + columns.column);
    bias[1] = _mm512_maskz_loadu_ps(high, columns.bias + columns.column + 16);
  }
  for (int64_t r = 0; r < rows; ++r) {
    __m512 value[2];
    for (int half = 0; half < 2; ++half) {
      value[half] = _mm512_castsi512_ps(products[half][r]);
      // Not fused: a scaled sum is rounded before the bias meets it, as elsewhere.
      if (columns.scales != nullptr) value[half] = _mm512_mul_ps(value[half], scale[half]);
      if (columns.bias != nullptr) value[half] = _mm512_add_ps(value[half], bias[half]);
    }
    Store(value[0], value[1], columns, out + r * out_stride + columns.column);
  }
}

}  // namespace internvl
#endif
