// Causal attention over the paged cache of sequences with several query rows.
#pragma once

#include "paged_sequences.h"

namespace internvl::cuda {

/// So many heads may share a key head.
constexpr int kMostGroup = 2048;

/// Leaves out sequences with one row or none. dim is 64 or 128, scale positive. The launch depends on nothing
/// but rows, heads and sequences.
template <typename Cached>
void LaunchPagedPrefill(const Pages<BFloat16, Cached>& pages, int64_t rows, cudaStream_t stream);

}  // namespace internvl::cuda
