// Attention of one query row by one block, in float32 throughout, for any head dim: what float32 tensors and
// head dims without a kernel of their own take. Right before fast.
#pragma once

#include <cmath>

#include "launch.h"
#include "packs.h"

namespace internvl::cuda {

constexpr int kPlainThreads = 128;

__device__ inline float Widened(float value) { return value; }
__device__ inline float Widened(BFloat16 value) { return FromBits(value.bits); }

constexpr size_t PlainSharedBytes(int64_t dim) {
  return static_cast<size_t>(2 * dim + kPlainThreads + 4) * sizeof(float);
}

/// The same for all threads of the block; `parts` is shared memory for 4.
template <typename Combine>
__device__ float CombineInBlock(float value, float* parts, Combine&& combine) {
  for (int step = 16; step > 0; step /= 2) {
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, step));
  }
  __syncthreads();  // what was there has been read
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  return combine(combine(parts[0], parts[1]), combine(parts[2], parts[3]));
}

/// q [dim] over `count` keys, at least one; k(i) and v(i) are where they are: element d of one is k(i)[d].
/// All of kPlainThreads threads call, with PlainSharedBytes of shared memory.
template <typename T, typename K, typename V>
__device__ void PlainAttention(const T* q, int dim, float scale, int count, K&& k, V&& v, T* out,
                               float* shared) {
  float* const query = shared;
  float* const sums = query + dim;
  float* const weights = sums + dim;
  float* const parts = weights + kPlainThreads;
  const int thread = static_cast<int>(threadIdx.x);
  for (int d = thread; d < dim; d += kPlainThreads) {
    query[d] = Widened(q[d]);
    sums[d] = 0.0f;
  }
  __syncthreads();
  float maximum = -INFINITY, total = 0.0f;
  for (int start = 0; start < count; start += kPlainThreads) {
    const int keys = min(kPlainThreads, count - start);
    float score = -INFINITY;
    if (thread < keys) {
      const auto key = k(start + thread);
      score = 0.0f;
      for (int d = 0; d < dim; ++d) score = fmaf(query[d], Widened(key[d]), score);
      score *= scale;
    }
    const float highest =
        fmaxf(maximum, CombineInBlock(score, parts, [](float a, float b) { return fmaxf(a, b); }));
    const float shrink = expf(maximum - highest);  // 0 the first time
    const float weight = thread < keys ? expf(score - highest) : 0.0f;
    maximum = highest;
    weights[thread] = weight;
    // The barriers of this one hand the weights to the other threads; those of the next maximum wait until
    // all have used them.
    total = total * shrink + CombineInBlock(weight, parts, [](float a, float b) { return a + b; });
    for (int d = thread; d < dim; d += kPlainThreads) {
      float sum = 0.0f;
      for (int i = 0; i < keys; ++i) sum = fmaf(weights[i], Widened(v(start + i)[d]), sum);
      sums[d] = sums[d] * shrink + sum;
    }
  }
  for (int d = thread; d < dim; d += kPlainThreads) {
    const float result[1] = {sums[d] / total};
    StorePack(result, out + d);
  }
}

}  // namespace internvl::cuda
