// Attention of one tile of query rows over keys that arrive tile by tile: the running maximum and sum of
// flash attention.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../tensor.h"
#include "pair_softmax.h"
#include "pair_tiles.h"
#include "row_math.h"

namespace internvl {

/// What a tile takes beside its SoftmaxTile when it is done in bfloat16 pairs.
struct PairedFactors {
  BFloat16* keys;     // in pairs, [dim / 2][keys][2]
  BFloat16* values;   // in pairs, [keys / 2][dim][2]
  BFloat16* weights;  // [queries, keys]

  static int64_t Floats(int64_t queries, int64_t keys, int64_t dim) {
    return keys * dim + queries * keys / 2;
  }
  PairedFactors(float* memory, int64_t keys, int64_t dim)
      : keys(reinterpret_cast<BFloat16*>(memory)),
        values(this->keys + keys * dim),
        weights(values + keys * dim) {}
};

/// Float32 working memory for tiles of up to `queries` x `keys`.
struct SoftmaxTile {
  float* scores;   // [queries, keys]
  float* output;   // [queries, dim]: the weighted values so far, not yet divided by the sum
  float* maximum;  // [queries]
  float* sum;      // [queries]

  static int64_t Floats(int64_t queries, int64_t keys, int64_t dim) { return queries * (keys + dim + 2); }
  SoftmaxTile(float* memory, int64_t queries, int64_t keys, int64_t dim);

  void Reset(int64_t queries, int64_t dim);

  /// Adds keys [keys, dim] and values [keys, dim] (row strides kv_stride) for queries [queries, dim] (stride
  /// q_stride). `visible(q)` is how many of these keys query q may see, from the first on.
  template <typename Visible>
  void Add(const float* q, int64_t q_stride, int64_t queries, const float* k, const float* v,
           int64_t kv_stride, int64_t keys, int64_t dim, float scale, Visible&& visible) {
    Scores(q, q_stride, queries, k, kv_stride, keys, dim, scale);
    for (int64_t i = 0; i < queries; ++i) Absorb(i, keys, visible(i), dim);
    Accumulate(queries, v, kv_stride, keys, dim);
  }

  /// The same in bfloat16 pairs: weights are rounded to bfloat16 before they meet the values, as the
  /// published model's attention does. keys is at most what the tile was made for, which is a multiple of
  /// kPairLength, as is dim.
  template <typename Visible>
  void AddPairs(const PairedFactors& factors, const BFloat16* q, int64_t q_stride, int64_t queries,
                const BFloat16* k, const BFloat16* v, int64_t kv_stride, int64_t keys, int64_t dim,
                float scale, Visible&& visible) {
    const int64_t columns = (keys + kPairLength - 1) / kPairLength * kPairLength;
    PairsOfColumns(k, kv_stride, keys, dim, factors.keys, columns);
    PairsOfRows(v, kv_stride, keys, dim, factors.values, columns);
    PairTile(q, queries, q_stride, dim, factors.keys, columns, scores, columns, false);
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t seen = std::clamp<int64_t>(visible(i), 0, keys);
      const float shrink = PairWeights(scores + i * columns, seen, columns, scale, maximum[i], sum[i],
                                       factors.weights + i * columns);
      if (shrink != 1.0f) AffineRow(shrink, 0.0f, output + i * dim, dim);
    }
    PairTile(factors.weights, queries, columns, columns, factors.values, dim, output, dim, true);
  }

  /// Turns a query's scores [keys] into weights (0 from `visible` on) and scales what it has so far to the
  /// new maximum.
  void Absorb(int64_t query, int64_t keys, int64_t visible, int64_t dim);

  /// Divides by the sums: output is the attention.
  void Finish(int64_t queries, int64_t dim);

 private:
  void Scores(const float* q, int64_t q_stride, int64_t queries, const float* k, int64_t k_stride,
              int64_t keys, int64_t dim, float scale);
  void Accumulate(int64_t queries, const float* v, int64_t v_stride, int64_t keys, int64_t dim);
};

}  // namespace internvl
