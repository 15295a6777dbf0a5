// Sums over a block, by shuffles inside warps and one round through shared memory.
#pragma once

#include <cuda_runtime.h>

namespace internvl::cuda {

__device__ inline float WarpSum(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}

/// The sum over all threads of the block, a multiple of 32 of them, in every one of them. Always in the same
/// order, so that equal rows have equal sums.
__device__ inline float BlockSum(float value) {
  __shared__ float warps[32];
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  value = WarpSum(value);
  if (lane == 0) warps[warp] = value;
  __syncthreads();
  value = WarpSum(lane < blockDim.x / 32 ? warps[lane] : 0.0f);
  __syncthreads();  // the next sum may be written
  return value;
}

}  // namespace internvl::cuda
