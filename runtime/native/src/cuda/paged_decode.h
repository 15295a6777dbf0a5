// Attention over the paged cache of sequences with one query row.
#pragma once

#include "paged_sequences.h"

namespace internvl::cuda {

/// Into how many parts the context of each sequence is cut, each a block's work: as many as fill the device,
/// by what is known without looking at a sequence. Cached: what keys and values are kept as.
template <typename Cached>
int DecodeSplits(int64_t sequences, int64_t heads, int64_t kv_heads, int64_t most_keys, int multiprocessors);

/// The working memory, for 2 splits or more: what each split makes of each head.
struct DecodePartials {
  float* output;   // [sequences, heads, splits, dim], divided by the sums
  float* log_sum;  // [sequences, heads, splits]: logarithm to the base 2 of the sum of 2^score
  int splits;

  static int64_t Floats(int64_t sequences, int64_t heads, int64_t dim, int splits) {
    return sequences * heads * splits * (dim + 1);
  }
};

/// Leaves out sequences with several rows or none. dim is 64 or 128, scale positive. The launches depend on
/// nothing but heads, sequences and splits.
template <typename Cached>
void LaunchPagedDecode(const Pages<BFloat16, Cached>& pages, const DecodePartials& partials,
                       cudaStream_t stream);

}  // namespace internvl::cuda
