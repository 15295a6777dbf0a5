// Matrix products of weights by the processor's tiles (AMX).
#pragma once

#include "../memory.h"
#include "../tensor.h"

namespace internvl {

/// out [T, N] = x [T, K] * weight [N, K]^T, times the scales of a quantized weight, + bias [N] (null: none).
/// x is bfloat16, the weight bfloat16, int8 or float8, out float32 or bfloat16. Sums are float32 and rounded
/// once; the instruction takes denormals as zero. Only where HasTiles().
void TileProducts(const Tensor& x, const Tensor& weight, const float* bias, const Tensor& out, Arena& arena);

}  // namespace internvl
