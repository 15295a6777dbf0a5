// Products of one row with int8 weights by the processor's own sums of products of bytes (AVX512-VNNI).
#pragma once

#include <cstdint>

#include "../tensor.h"
#include "digits.h"

namespace internvl {

/// Whether this build has them and the processor, or the instruction set asked for, runs them.
bool HasByteProducts();
/// A row may have so many elements: its sums stay below 2^31.
constexpr int64_t kMostByteDepth = 1 << 16;

/// A row of x as ByteRow takes it; `memory` has ByteRowBytes(k), aligned to 64.
struct ByteFactor {
  const int8_t* digits;
  int64_t depth;
  float scale;
};
constexpr int64_t ByteRowBytes(int64_t k) { return kDigits * ((k + 63) / 64 * 64); }
ByteFactor BytesOf(const BFloat16* x, int64_t k, int8_t* memory);

/// out [weights] = x [k] times w [weights, k] (w_stride between rows) transposed, without the weights'
/// scales; as exact as DigitProducts.
void ByteRow(const ByteFactor& x, int64_t k, const int8_t* w, int64_t w_stride, int64_t weights, float* out);

}  // namespace internvl
