// What a layer's output adds to a pack of the residual stream, and where that is rounded.
#pragma once

#include "packs.h"

namespace internvl::cuda {

/// sums += terms, or terms * scale where there is one; terms and products rounded to what T holds, the sums
/// not yet. first: the pack's place in its row.
template <typename T, int N>
__device__ inline void AddTerms(float (&terms)[N], const Parameters& scale, int64_t first, float (&sums)[N]) {
#pragma unroll
  for (int j = 0; j < N; ++j) terms[j] = RoundedTo<T>(terms[j]);
  if (scale.data != nullptr) {
    float factors[N];
    scale.Load(first, factors);
    // Rounded in float32 too: a product that goes into the sum unrounded would be another contract.
#pragma unroll
    for (int j = 0; j < N; ++j) terms[j] = RoundedTo<T>(__fmul_rn(terms[j], factors[j]));
  }
#pragma unroll
  for (int j = 0; j < N; ++j) sums[j] = __fadd_rn(sums[j], terms[j]);
}

}  // namespace internvl::cuda
