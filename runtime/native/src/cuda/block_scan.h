// Running sums of whole numbers over the threads of a block.
#pragma once

#include <cuda_runtime.h>

namespace internvl::cuda {

/// The sum of the values of all threads up to this one, itself included; the block has `Threads`.
template <int Threads>
__device__ inline unsigned long long RunningSum(unsigned long long value) {
  static_assert(Threads % 32 == 0 && Threads <= 1024);
  __shared__ unsigned long long warps[32];
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (unsigned distance = 1; distance < 32; distance *= 2) {
    const unsigned long long other = __shfl_up_sync(0xffffffffu, value, distance);
    if (lane >= distance) value += other;
  }
  if (lane == 31) warps[warp] = value;
  __syncthreads();
  unsigned long long before = lane < warp ? warps[lane] : 0;
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    before += __shfl_xor_sync(0xffffffffu, before, distance);
  __syncthreads();  // the next sums may be written
  return before + value;
}

/// What the last thread has, in all of them.
template <int Threads, typename T>
__device__ inline T OfLastThread(T value) {
  __shared__ T last;
  if (threadIdx.x == Threads - 1) last = value;
  __syncthreads();
  const T result = last;
  __syncthreads();
  return result;
}

}  // namespace internvl::cuda
