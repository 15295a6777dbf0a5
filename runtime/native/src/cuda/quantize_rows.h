// Rows in e4m3, each with a scale of its own: the other factor of products with float8 weights.
#pragma once

#include "launch.h"

namespace internvl::cuda {

/// Whether QuantizeRows takes them: bfloat16, and of a width that a block holds and e4m3 is multiplied in.
bool HasQuantizeRows(const Tensor& x);

/// x [T, K] -> codes [T, K] and scales [T]: x is about codes times scales, which are the largest magnitude of
/// a row divided by 448, and not finite where one of the row is not. See Float8Factor.
void QuantizeRows(const Tensor& x, Float8* codes, float* scales, cudaStream_t stream);

}  // namespace internvl::cuda
