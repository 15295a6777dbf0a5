// Keys lie row by row, the order of a tile's first factor, so scores come out with a row for each key and a
// column for each query head: one vector holds a key's scores of all heads, and running maxima and sums are
// vectors too. Values have to be put in pairs, and weights turned, before they meet.
#include "tile_decode.h"

#include <algorithm>
#include <cmath>

#include "cpu.h"
#include "pair_tiles.h"
#include "row_math.h"
#include "tiles.h"
#include "transpose.h"
#include "weight_exp.h"

namespace internvl {

#if defined(__x86_64__)
namespace {

constexpr int64_t kHeads = 16;    // columns of scores: query heads, and unused ones
constexpr int64_t kRun = 16;      // keys of a tile, which lie together in a block
constexpr int64_t kKeys = 256;    // between two updates of the running maxima
constexpr int64_t kAhead = 2;     // runs
constexpr int64_t kMixed = 32;    // keys that meet their weights at once
constexpr int64_t kColumns = 64;  // of the output, that stay in tiles meanwhile

struct Work {
  float* scores;      // [kKeys][kHeads]
  float* output;      // [kHeads][dim], not yet divided by the sums
  BFloat16* queries;  // in pairs, [dim / 2][kHeads][2]
  BFloat16* weights;  // [kKeys / kMixed][kHeads][kMixed]
  BFloat16* values;   // in pairs, [kKeys / 2][dim][2]

  static int64_t Floats(int64_t dim) {
    return kKeys * kHeads + kHeads * dim + (dim + kKeys) * kHeads / 2 + kKeys * dim / 2;
  }
  Work(float* memory, int64_t dim)
      : scores(memory),
        output(scores + kKeys * kHeads),
        queries(reinterpret_cast<BFloat16*>(output + kHeads * dim)),
        weights(queries + dim * kHeads),
        values(weights + kKeys * kHeads) {}
};

/// Calls a run of keys or values into the caches: blocks lie anywhere, and their rows apart.
template <int kDepths>
TILE_INLINE void Foresee(const BFloat16* from, int64_t stride) {
  for (int64_t r = 0; r < kRun; ++r) {
    for (int64_t line = 0; line < kDepths; ++line) {
      _mm_prefetch(reinterpret_cast<const char*>(from + r * stride + line * 32), _MM_HINT_T0);
    }
  }
}

/// Scores of the runs of keys from `start` on: kDepths tiles of each query stay where they are.
template <int kDepths>
TILE_TARGET void Scores(const PagedRows& rows, int64_t start, int64_t runs, const Work& work) {
  const int64_t bytes = 2 * rows.stride;
  _tile_loadd(4, work.queries, 64);
  if constexpr (kDepths > 1) _tile_loadd(5, work.queries + 32 * kHeads, 64);
  if constexpr (kDepths > 2) _tile_loadd(6, work.queries + 64 * kHeads, 64);
  if constexpr (kDepths > 3) _tile_loadd(7, work.queries + 96 * kHeads, 64);
  for (int64_t run = 0; run < runs; ++run) {
    const int64_t offset = rows.offset(start + run * kRun);
    if (run + kAhead < runs)
      Foresee<kDepths>(rows.keys + rows.offset(start + (run + kAhead) * kRun), rows.stride);
    Foresee<kDepths>(rows.values + offset, rows.stride);
    const BFloat16* const keys = rows.keys + offset;
    _tile_zero(0);
    _tile_loadd(1, keys, bytes);
    _tile_dpbf16ps(0, 1, 4);
    if constexpr (kDepths > 1) {
      _tile_loadd(2, keys + 32, bytes);
      _tile_dpbf16ps(0, 2, 5);
    }
    if constexpr (kDepths > 2) {
      _tile_loadd(3, keys + 64, bytes);
      _tile_dpbf16ps(0, 3, 6);
    }
    if constexpr (kDepths > 3) {
      _tile_loadd(1, keys + 96, bytes);
      _tile_dpbf16ps(0, 1, 7);
    }
    _tile_stored(0, work.scores + run * kRun * kHeads, 64);
  }
}

using ScoresFunction = void (*)(const PagedRows&, int64_t, int64_t, const Work&);
constexpr ScoresFunction kScores[4] = {Scores<1>, Scores<2>, Scores<3>, Scores<4>};

/// The weights of 16 keys, of which those from `seen` on are 0, by head; adds them to `sum`.
TILE_INLINE void WeightsOf(const float* scores, int64_t seen, __m512 scale, __m512 highest, __m512& sum,
                           __m512i (&by_head)[16]) {
  __m512i by_key[16];
  for (int64_t k = 0; k < 16; ++k) {
    // Scaled, then shifted, each rounded, as in float32 arithmetic elsewhere.
    const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(scores + k * kHeads), scale);
    const __m512 weight = k < seen ? Exp(_mm512_sub_ps(scaled, highest)) : _mm512_setzero_ps();
    sum = _mm512_add_ps(sum, weight);
    by_key[k] = _mm512_castps_si512(weight);
  }
  Transpose(by_key, by_head);
}

/// Turns the scores of `keys` keys into weights, zeros up to a multiple of kMixed, and what there is so far
/// to the new maxima.
TILE_TARGET void Absorb(int64_t keys, int64_t dim, float scale, const Work& work, __m512& maxima,
                        __m512& sums) {
  const __m512 factor = _mm512_set1_ps(scale);
  __m512 highest = maxima;
  for (int64_t k = 0; k < keys; ++k) {
    highest = _mm512_max_ps(highest, _mm512_mul_ps(_mm512_loadu_ps(work.scores + k * kHeads), factor));
  }
  const __m512 shrunk = Exp(_mm512_sub_ps(maxima, highest));  // 0 the first time
  maxima = highest;
  alignas(64) float shrink[kHeads];
  _mm512_store_ps(shrink, shrunk);
  for (int64_t h = 0; h < kHeads; ++h) {
    const __m512 by = _mm512_set1_ps(shrink[h]);
    float* const row = work.output + h * dim;
    for (int64_t j = 0; j < dim; j += 16)
      _mm512_storeu_ps(row + j, _mm512_mul_ps(_mm512_loadu_ps(row + j), by));
  }
  __m512 sum = _mm512_mul_ps(sums, shrunk);
  for (int64_t k = 0; k < keys; k += kMixed) {
    __m512i by_head[2][16];
    WeightsOf(work.scores + k * kHeads, keys - k, factor, highest, sum, by_head[0]);
    WeightsOf(work.scores + (k + 16) * kHeads, keys - k - 16, factor, highest, sum, by_head[1]);
    for (int h = 0; h < 16; ++h) {
      const __m512bh both =
          _mm512_cvtne2ps_pbh(_mm512_castsi512_ps(by_head[1][h]), _mm512_castsi512_ps(by_head[0][h]));
      _mm512_storeu_si512(work.weights + k * kHeads + h * kMixed, (__m512i)both);
    }
  }
  sums = sum;
}

/// Columns [first, first + 16 kTiles) of the output += weights times values, of `keys` keys.
template <int kTiles>
TILE_TARGET void Mix(int64_t keys, int64_t dim, int64_t first, const Work& work) {
  float* const out = work.output + first;
  const int64_t out_bytes = 4 * dim, value_bytes = 4 * dim;
  _tile_loadd(0, out, out_bytes);
  _tile_loadd(1, out + 16, out_bytes);
  if constexpr (kTiles == 4) {
    _tile_loadd(2, out + 32, out_bytes);
    _tile_loadd(3, out + 48, out_bytes);
  }
  for (int64_t k = 0; k < keys; k += kMixed) {
    const BFloat16* const values = work.values + k * dim + 2 * first;
    _tile_loadd(4, work.weights + k * kHeads, 64);
    _tile_loadd(6, values, value_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, values + 32, value_bytes);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kTiles == 4) {
      _tile_loadd(6, values + 64, value_bytes);
      _tile_dpbf16ps(2, 4, 6);
      _tile_loadd(7, values + 96, value_bytes);
      _tile_dpbf16ps(3, 4, 7);
    }
  }
  _tile_stored(0, out, out_bytes);
  _tile_stored(1, out + 16, out_bytes);
  if constexpr (kTiles == 4) {
    _tile_stored(2, out + 32, out_bytes);
    _tile_stored(3, out + 48, out_bytes);
  }
}

}  // namespace

bool HasTileDecode(int64_t group, int64_t dim, int64_t block_size) {
  return HasTiles() && group <= kHeads && dim % kPairLength == 0 && dim <= 4 * kPairLength &&
         block_size % kRun == 0;
}

int64_t TileDecodeFloats(int64_t dim) { return Work::Floats(dim); }

TILE_TARGET const float* TileDecode(const BFloat16* q, int64_t group, int64_t dim, const PagedRows& rows,
                                    int64_t length, float scale, float* memory) {
  const Work work(memory, dim);
  PairsOfColumns(q, dim, group, dim, work.queries, kHeads);
  std::fill_n(work.output, kHeads * dim, 0.0f);
  __m512 maxima = _mm512_set1_ps(-INFINITY), sums = _mm512_setzero_ps();
  const TileUse tiles;
  for (int64_t start = 0; start < length; start += kKeys) {
    const int64_t keys = std::min(kKeys, length - start), runs = (keys + kRun - 1) / kRun;
    TileFence();
    // Whole runs, which blocks are made of: the scores of keys that are not there yet are not looked at.
    kScores[dim / kPairLength - 1](rows, start, runs, work);
    Absorb(keys, dim, scale, work, maxima, sums);
    // Values that are not there yet are zeros: whatever lies there, their weight of zero must not make it
    // count.
    for (int64_t run = 0; run < (keys + kMixed - 1) / kMixed * 2; ++run) {
      const int64_t here = std::clamp<int64_t>(keys - run * kRun, 0, kRun);
      const BFloat16* const values = here == 0 ? nullptr : rows.values + rows.offset(start + run * kRun);
      PairsOfRows(values, rows.stride, here, dim, work.values + run * kRun * dim, kRun);
    }
    TileFence();
    for (int64_t first = 0; first < dim; first += kColumns) {
      (dim - first >= kColumns ? Mix<4> : Mix<2>)(keys, dim, first, work);
    }
  }
  alignas(64) float sum[kHeads];
  _mm512_store_ps(sum, sums);
  for (int64_t h = 0; h < group; ++h) AffineRow(1.0f / sum[h], 0.0f, work.output + h * dim, dim);
  return work.output;
}

#else

bool HasTileDecode(int64_t, int64_t, int64_t) { return false; }
int64_t TileDecodeFloats(int64_t) { return 0; }
const float* TileDecode(const BFloat16*, int64_t, int64_t, const PagedRows&, int64_t, float, float*) {
  return nullptr;
}

#endif

}  // namespace internvl
