// Bidirectional attention of the vision encoder.
#pragma once

#include "../tensor.h"
#include "launch.h"

namespace internvl::cuda {

/// qkv [N, 3 * heads * dim], N a multiple of length -> out [N, heads * dim]
void AttendImages(const Tensor& qkv, int64_t length, int64_t heads, int64_t dim, float scale,
                  const Tensor& out, cudaStream_t stream);

}  // namespace internvl::cuda
