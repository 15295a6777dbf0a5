#include "softmax_tile.h"

#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <cmath>

#include "row_math.h"

namespace internvl {

SoftmaxTile::SoftmaxTile(float* memory, int64_t queries, int64_t keys, int64_t dim)
    : scores(memory),
      output(scores + queries * keys),
      maximum(output + queries * dim),
      sum(maximum + queries) {}

void SoftmaxTile::Reset(int64_t queries, int64_t dim) {
  std::fill_n(output, queries * dim, 0.0f);
  std::fill_n(maximum, queries, -INFINITY);
  std::fill_n(sum, queries, 0.0f);
}

// dnnl_sgemm can only fail on bad arguments; the callers have checked theirs. Inside a parallel region it
// runs on one thread.
void SoftmaxTile::Scores(const float* q, int64_t q_stride, int64_t queries, const float* k, int64_t k_stride,
                         int64_t keys, int64_t dim, float scale) {
  dnnl_sgemm('N', 'T', queries, keys, dim, scale, q, q_stride, k, k_stride, 0.0f, scores, keys);
}

void SoftmaxTile::Absorb(int64_t query, int64_t keys, int64_t visible, int64_t dim) {
  float* row = scores + query * keys;
  visible = std::clamp<int64_t>(visible, 0, keys);
  std::fill(row + visible, row + keys, 0.0f);  // becomes the weight of keys that are not seen
  if (visible == 0) return;
  const float highest = std::max(maximum[query], Max(row, visible));
  if (highest > maximum[query]) {
    const float shrink = std::exp(maximum[query] - highest);  // 0 the first time
    sum[query] *= shrink;
    AffineRow(shrink, 0.0f, output + query * dim, dim);
    maximum[query] = highest;
  }
  sum[query] += ExpRow(row, highest, visible);
}

void SoftmaxTile::Accumulate(int64_t queries, const float* v, int64_t v_stride, int64_t keys, int64_t dim) {
  dnnl_sgemm('N', 'N', queries, dim, keys, 1.0f, scores, keys, v, v_stride, 1.0f, output, dim);
}

void SoftmaxTile::Finish(int64_t queries, int64_t dim) {
  for (int64_t i = 0; i < queries; ++i) AffineRow(1.0f / sum[i], 0.0f, output + i * dim, dim);
}

}  // namespace internvl
