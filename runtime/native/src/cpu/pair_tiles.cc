#include "pair_tiles.h"

#include <algorithm>
#include <cstring>

#include "pair_target.h"
#include "transpose.h"

namespace internvl {

#if defined(__x86_64__)
namespace {

constexpr int kMostRows = 6;     // with kMostVectors: sums in 24 registers, factors in 5
constexpr int kMostVectors = 4;  // of 16 columns

/// kRows rows by 16 kVectors columns: every vector that is loaded is used kRows times.
template <int kRows, int kVectors>
PAIR_TARGET void Block(const BFloat16* x, int64_t x_stride, int64_t k, const BFloat16* pairs, int64_t columns,
                       float* out, int64_t out_stride, bool add) {
  __m512 sums[kRows][kVectors];
  for (int t = 0; t < kRows; ++t) {
    for (int c = 0; c < kVectors; ++c) {
      sums[t][c] = add ? _mm512_loadu_ps(out + t * out_stride + 16 * c) : _mm512_setzero_ps();
    }
  }
  for (int64_t i = 0; i < k; i += 2) {
    __m512bh factors[kVectors];
    for (int c = 0; c < kVectors; ++c)
      factors[c] = (__m512bh)_mm512_loadu_si512(pairs + i * columns + 32 * c);
    for (int t = 0; t < kRows; ++t) {
      int32_t pair;
      std::memcpy(&pair, x + t * x_stride + i, sizeof(pair));
      const __m512bh value = (__m512bh)_mm512_set1_epi32(pair);
      for (int c = 0; c < kVectors; ++c) sums[t][c] = _mm512_dpbf16_ps(sums[t][c], factors[c], value);
    }
  }
  for (int t = 0; t < kRows; ++t) {
    for (int c = 0; c < kVectors; ++c) _mm512_storeu_ps(out + t * out_stride + 16 * c, sums[t][c]);
  }
}

using BlockFunction = void (*)(const BFloat16*, int64_t, int64_t, const BFloat16*, int64_t, float*, int64_t,
                               bool);

template <int kVectors>
constexpr BlockFunction kBlocks[kMostRows] = {Block<1, kVectors>, Block<2, kVectors>, Block<3, kVectors>,
                                              Block<4, kVectors>, Block<5, kVectors>, Block<6, kVectors>};

BlockFunction BlockOf(int64_t rows, int64_t vectors) {
  switch (vectors) {
    case 1:
      return kBlocks<1>[rows - 1];
    case 2:
      return kBlocks<2>[rows - 1];
    case 3:
      return kBlocks<3>[rows - 1];
    default:
      return kBlocks<4>[rows - 1];
  }
}

}  // namespace

PAIR_TARGET void PairsOfColumns(const BFloat16* rows, int64_t stride, int64_t count, int64_t k,
                                BFloat16* pairs, int64_t columns) {
  for (int64_t first = 0; first < columns; first += kPairColumns) {
    const int64_t filled = std::min(kPairColumns, count - first);
    for (int64_t i = 0; i < k; i += kPairLength) {
      const int64_t length = std::min(kPairLength, k - i);
      const auto mask = static_cast<__mmask32>((uint64_t{1} << length) - 1);
      __m512i from[16], to[16];
      for (int64_t r = 0; r < 16; ++r) {
        from[r] = r < filled ? _mm512_maskz_loadu_epi16(mask, rows + (first + r) * stride + i)
                             : _mm512_setzero_si512();
      }
      Transpose(from, to);
      for (int64_t p = 0; p < 16; ++p) _mm512_storeu_si512(pairs + (i + 2 * p) * columns + 2 * first, to[p]);
    }
  }
}

PAIR_TARGET void PairsOfRows(const BFloat16* rows, int64_t stride, int64_t count, int64_t columns,
                             BFloat16* pairs, int64_t k) {
  const PairOrder order = InPairs();
  for (int64_t i = 0; i < k; i += 2) {
    for (int64_t j = 0; j < columns; j += kPairLength) {
      const BFloat16* from = rows + i * stride + j;
      const __m512i even = i < count ? _mm512_loadu_si512(from) : _mm512_setzero_si512();
      const __m512i odd = i + 1 < count ? _mm512_loadu_si512(from + stride) : _mm512_setzero_si512();
      BFloat16* to = pairs + i * columns + 2 * j;
      _mm512_storeu_si512(to, _mm512_permutex2var_epi16(even, order.low, odd));
      _mm512_storeu_si512(to + 32, _mm512_permutex2var_epi16(even, order.high, odd));
    }
  }
}

void PairTile(const BFloat16* x, int64_t rows, int64_t x_stride, int64_t k, const BFloat16* pairs,
              int64_t columns, float* out, int64_t out_stride, bool add) {
  constexpr int64_t kStrip = kMostVectors * kPairColumns;
  const int64_t blocks = (rows + kMostRows - 1) / kMostRows;
  for (int64_t j = 0; j < columns; j += kStrip) {
    const int64_t vectors = std::min(kStrip, columns - j) / kPairColumns;
    // Blocks of nearly equal heights: a last one of a single row would use what it loads but once.
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t first = rows * b / blocks, count = rows * (b + 1) / blocks - first;
      BlockOf(count, vectors)(x + first * x_stride, x_stride, k, pairs + 2 * j, columns,
                              out + first * out_stride + j, out_stride, add);
    }
  }
}

#else

void PairsOfColumns(const BFloat16*, int64_t, int64_t, int64_t, BFloat16*, int64_t) {}
void PairsOfRows(const BFloat16*, int64_t, int64_t, int64_t, BFloat16*, int64_t) {}
void PairTile(const BFloat16*, int64_t, int64_t, int64_t, const BFloat16*, int64_t, float*, int64_t, bool) {}

#endif

}  // namespace internvl
