// Products of a few rows of x: each weight is read once, as fast as memory gives it.
#pragma once

#include "launch.h"
#include "sums_out.h"

namespace internvl::cuda {

/// x [T, K] times weight [N, K] transposed, in float32, any types; the weight is read once for each 4 rows of
/// x.
void RowProducts(const Tensor& x, const Tensor& weight, const SumsOut& out, cudaStream_t stream);

/// The most rows for which TensorRowProducts is meant.
constexpr int64_t kMostTensorRows = 16;

/// Whether TensorRowProducts takes them: x bfloat16, the weight bfloat16, int8 or float8, whole vectors.
bool HasTensorRowProducts(const Tensor& x, const Tensor& weight);

/// The same on the tensor cores, for 2 to kMostTensorRows rows: the weight is read once for all.
void TensorRowProducts(const Tensor& x, const Tensor& weight, const SumsOut& out, cudaStream_t stream);

}  // namespace internvl::cuda
