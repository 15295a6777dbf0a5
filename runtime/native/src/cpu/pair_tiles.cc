#include "pair_tiles.h"

#include <algorithm>
#include <cstring>

#include "cpu.h"
#include "pair_target.h"
#include "tiles.h"
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

namespace {

void PairTileByVectors(const BFloat16* x, int64_t rows, int64_t x_stride, int64_t k, const BFloat16* pairs,
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

/// kSquares times 16 rows by 32 columns; k is a multiple of kPairLength. The tiles may have fewer rows.
template <int kSquares>
TILE_TARGET void TileBlock(const BFloat16* x, int64_t x_stride, int64_t k, const BFloat16* pairs,
                           int64_t columns, float* out, int64_t out_stride, bool add) {
  const int64_t x_bytes = 2 * x_stride, pair_bytes = 4 * columns, out_bytes = 4 * out_stride;
  float* const below = out + 16 * out_stride;
  if (add) {
    _tile_loadd(0, out, out_bytes);
    _tile_loadd(1, out + 16, out_bytes);
    if constexpr (kSquares == 2) {
      _tile_loadd(2, below, out_bytes);
      _tile_loadd(3, below + 16, out_bytes);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (kSquares == 2) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }
  for (int64_t i = 0; i < k; i += kPairLength) {
    _tile_loadd(4, x + i, x_bytes);
    _tile_loadd(6, pairs + i * columns, pair_bytes);
    _tile_loadd(7, pairs + i * columns + 32, pair_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kSquares == 2) {
      _tile_loadd(5, x + 16 * x_stride + i, x_bytes);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, out, out_bytes);
  _tile_stored(1, out + 16, out_bytes);
  if constexpr (kSquares == 2) {
    _tile_stored(2, below, out_bytes);
    _tile_stored(3, below + 16, out_bytes);
  }
}

TILE_TARGET void PairTileByTiles(const BFloat16* x, int64_t rows, int64_t x_stride, int64_t k,
                                 const BFloat16* pairs, int64_t columns, float* out, int64_t out_stride,
                                 bool add) {
  TileFence();
  const int64_t whole = rows / 16 * 16;
  if (whole > 0) {
    const TileUse tiles;
    for (int64_t j = 0; j < columns; j += 32) {
      int64_t r = 0;
      for (; r + 32 <= whole; r += 32) {
        TileBlock<2>(x + r * x_stride, x_stride, k, pairs + 2 * j, columns, out + r * out_stride + j,
                     out_stride, add);
      }
      if (r < whole) {
        TileBlock<1>(x + r * x_stride, x_stride, k, pairs + 2 * j, columns, out + r * out_stride + j,
                     out_stride, add);
      }
    }
  }
  if (whole == rows) return;
  const TileUse tiles(static_cast<int>(rows - whole));
  for (int64_t j = 0; j < columns; j += 32) {
    TileBlock<1>(x + whole * x_stride, x_stride, k, pairs + 2 * j, columns, out + whole * out_stride + j,
                 out_stride, add);
  }
}

}  // namespace

void PairTile(const BFloat16* x, int64_t rows, int64_t x_stride, int64_t k, const BFloat16* pairs,
              int64_t columns, float* out, int64_t out_stride, bool add) {
  const bool tiles = HasTiles() && k % kPairLength == 0 && columns % 32 == 0;
  (tiles ? PairTileByTiles : PairTileByVectors)(x, rows, x_stride, k, pairs, columns, out, out_stride, add);
}

#else

void PairsOfColumns(const BFloat16*, int64_t, int64_t, int64_t, BFloat16*, int64_t) {}
void PairsOfRows(const BFloat16*, int64_t, int64_t, int64_t, BFloat16*, int64_t) {}
void PairTile(const BFloat16*, int64_t, int64_t, int64_t, const BFloat16*, int64_t, float*, int64_t, bool) {}

#endif

}  // namespace internvl
