// Products of bfloat16 matrices by the processor's own instruction for pairs (AVX512-BF16), for factors that
// are made while the model runs: keys and values. The second factor is first put in pairs: elements 2i and
// 2i + 1 of a column side by side, [k / 2][columns][2].
#pragma once

#include <cstdint>

#include "../tensor.h"

namespace internvl {

/// Columns of a factor in pairs come in multiples of this.
constexpr int64_t kPairColumns = 16;
/// What PairsOfColumns makes of a column's length, and PairsOfRows takes as a row's, is a multiple of this.
constexpr int64_t kPairLength = 32;

/// The factor whose columns are the rows [count, k] (`stride` between them) with zeros up to a multiple of
/// kPairLength, then columns of zeros up to `columns`.
void PairsOfColumns(const BFloat16* rows, int64_t stride, int64_t count, int64_t k, BFloat16* pairs,
                    int64_t columns);

/// The factor whose rows are the rows [count, columns] (`stride` between them), then rows of zeros up to `k`,
/// which is even.
void PairsOfRows(const BFloat16* rows, int64_t stride, int64_t count, int64_t columns, BFloat16* pairs,
                 int64_t k);

/// out [rows, columns] (out_stride between rows) = x [rows, k] (x_stride between rows) times a factor in
/// pairs; k is even. With `add`, it is added to what out holds. Each sum is taken in the order of k.
void PairTile(const BFloat16* x, int64_t rows, int64_t x_stride, int64_t k, const BFloat16* pairs,
              int64_t columns, float* out, int64_t out_stride, bool add);

}  // namespace internvl
