// Attention of one tile of query rows over keys that arrive tile by tile: the running maximum and sum of
// flash attention.
#pragma once

#include <cstdint>

namespace internvl {

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
