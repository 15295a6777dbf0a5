// Rows of int8 and float8 weights: made from float32 ones, and taken for the numbers that they stand for
// without their scale.
#pragma once

#include <cstdint>

#include "../tensor.h"

namespace internvl {

/// Rounds a row to whole numbers of -127..127 times the scale that is returned: the largest magnitude of the
/// row divided by 127, 0 for a row of zeros.
float QuantizeRow(const float* from, int8_t* to, int64_t n);

/// Rounds a row to e4m3 times the scale that is returned: the largest magnitude of the row divided by 448; no
/// number where one of the row is none. See Float8Factor.
float QuantizeRow(const float* from, Float8* to, int64_t n);

/// Without the scale, hence exact: a bfloat16 holds whole numbers up to 256, and all of e4m3.
void Widen(const int8_t* from, float* to, int64_t n);
void Widen(const int8_t* from, BFloat16* to, int64_t n);
void Widen(const Float8* from, float* to, int64_t n);
void Widen(const Float8* from, BFloat16* to, int64_t n);

}  // namespace internvl
