// Products of few rows with int8 weights by the processor's own sums of products of bytes (AVX512-VNNI).
#pragma once

#include <cstdint>

#include "../tensor.h"
#include "digits.h"

namespace internvl {

/// Whether this build has them and the processor, or the instruction set asked for, runs them.
bool HasByteProducts();
/// A row may have so many elements: its sums stay below 2^31.
constexpr int64_t kMostByteDepth = 1 << 16;
/// From more rows on PairRows is as fast.
constexpr int64_t kMostByteRows = 4;

/// Rows of x as ByteProducts takes them.
struct ByteRows {
  int64_t rows, depth;     // depth: of a row's digits, a multiple of 64
  const int8_t* digits;    // [rows][kDigits][depth]
  const RowScale* scales;  // [rows]
};
constexpr int64_t ByteDepth(int64_t k) { return (k + 63) / 64 * 64; }
/// x [rows, k], at most kMostByteRows; `digits` [rows][kDigits][ByteDepth(k)], aligned to 64.
ByteRows BytesOf(const BFloat16* x, int64_t rows, int64_t k, int8_t* digits, RowScale* scales);

/// out [rows, weights] (out_stride between rows) = x times w [weights, k] (w_stride between rows) transposed,
/// without the weights' scales; as exact as DigitProducts.
void ByteProducts(const ByteRows& x, int64_t k, const int8_t* w, int64_t w_stride, int64_t weights,
                  float* out, int64_t out_stride);

}  // namespace internvl
