// Dot products of bfloat16 rows by the processor's own instruction for them (AVX512-BF16).
#pragma once

#include <cstdint>

#include "../tensor.h"

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

/// out [rows, width] += p [rows, count] (p_stride between rows) times v [count, width] (v_stride between
/// rows). width is a multiple of kMixWidth.
constexpr int64_t kMixWidth = 32;
void PairMix(const BFloat16* p, int64_t rows, int64_t p_stride, const BFloat16* v, int64_t v_stride,
             int64_t count, int64_t width, float* out);

}  // namespace internvl
