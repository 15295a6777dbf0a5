// Attention of one row of a sequence over its paged keys and values, by the processor's tiles (AMX).
#pragma once

#include <cstdint>

#include "../tensor.h"

namespace internvl {

/// The keys and values of one head: those of position p lie in row blocks[p / block_size] * block_size + p %
/// block_size, `stride` elements apart.
struct PagedRows {
  const BFloat16* keys;
  const BFloat16* values;
  int64_t stride;
  const int32_t* blocks;
  int64_t block_size;

  int64_t offset(int64_t position) const {
    return (int64_t{blocks[position / block_size]} * block_size + position % block_size) * stride;
  }
};

/// Whether TileDecode takes heads of this kind: `group` query heads of `dim` elements to a key head.
bool HasTileDecode(int64_t group, int64_t dim, int64_t block_size);
/// Its working memory.
int64_t TileDecodeFloats(int64_t dim);
/// q [group, dim] over the first `length` positions; returns the attention [group, dim], which lies in
/// `memory`. Weights are rounded to bfloat16 before they meet the values, as the published model's are.
const float* TileDecode(const BFloat16* q, int64_t group, int64_t dim, const PagedRows& rows, int64_t length,
                        float scale, float* memory);

}  // namespace internvl
