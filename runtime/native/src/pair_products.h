// Dot products of bfloat16 rows by the processor's own instruction for them (AVX512-BF16).
#pragma once

#include <cstdint>

#include "tensor.h"

namespace internvl {

/// Whether this build has PairRows and the processor, or the instruction set asked for, runs it.
bool HasPairRows();

/// out [rows, weights] (out_stride between rows) = x [rows, k] times w [weights, k] (w_stride between rows)
/// transposed. Sums are float32; the instruction takes denormals as zero and rounds after each addition.
/// Whole numbers of int8 become bfloat16 in registers, exactly.
void PairRows(const BFloat16* x, int64_t rows, int64_t k, const BFloat16* w, int64_t w_stride,
              int64_t weights, float* out, int64_t out_stride);
void PairRows(const BFloat16* x, int64_t rows, int64_t k, const int8_t* w, int64_t w_stride, int64_t weights,
              float* out, int64_t out_stride);

}  // namespace internvl
