// Products of few rows, bound by reading the other factor once: decode steps. Compiled for several
// instruction sets as row math is.
#pragma once

#include <cstdint>

#include "../tensor.h"

namespace internvl {

/// out [rows, weights] (stride out_stride) = x [rows, k] times w [weights, k] (stride w_stride) transposed.
/// For few rows.
void DotRows(const float* x, int64_t rows, int64_t k, const float* w, int64_t w_stride, int64_t weights,
             float* out, int64_t out_stride);
void DotRows(const float* x, int64_t rows, int64_t k, const BFloat16* w, int64_t w_stride, int64_t weights,
             float* out, int64_t out_stride);
void DotRows(const float* x, int64_t rows, int64_t k, const int8_t* w, int64_t w_stride, int64_t weights,
             float* out, int64_t out_stride);
void DotRows(const float* x, int64_t rows, int64_t k, const Float8* w, int64_t w_stride, int64_t weights,
             float* out, int64_t out_stride);
/// out [rows, width] += p [rows, count] (stride p_stride) times v [count, width] (stride v_stride). For few
/// rows.
void MixRows(const float* p, int64_t rows, int64_t p_stride, const float* v, int64_t v_stride, int64_t count,
             int64_t width, float* out);
void MixRows(const float* p, int64_t rows, int64_t p_stride, const BFloat16* v, int64_t v_stride,
             int64_t count, int64_t width, float* out);

}  // namespace internvl
