// Matrix products of few rows with int8 weights by the processor's tiles of whole numbers (AMX).
#pragma once

#include "../memory.h"
#include "../tensor.h"

namespace internvl {

/// Up to here DigitProducts is cheaper than widening the weights.
constexpr int64_t kMostDigitRows = 64;
/// Sums of so many products of bytes stay below 2^31.
constexpr int64_t kMostDigitDepth = 1 << 17;

/// out [T, N] = x [T, K] * weight [N, K]^T times the weight's scales, + bias [N] (null: none). x is bfloat16,
/// the weight int8, out float32 or bfloat16. Of x counts what lies within 2^-22 of its row's largest
/// magnitude; the sums are exact before they become float32, and are rounded once more at the end. A row with
/// a NaN or an infinity gives NaN. K is at most kMostDigitDepth. Only where HasTiles().
void DigitProducts(const Tensor& x, const Tensor& weight, const float* bias, const Tensor& out, Arena& arena);

}  // namespace internvl
