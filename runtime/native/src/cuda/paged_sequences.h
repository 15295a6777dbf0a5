// Sequences over the paged cache as kernels take them.
#pragma once

#include <cstdint>

#include "launch.h"

namespace internvl::cuda {

/// What is in PagedSequences, PagedCache and HeadShape of backend.h, on the device.
template <typename T>
struct Pages {
  const T* qkv;
  const T* k_cache;
  const T* v_cache;
  T* out;
  const int32_t* query_start;
  const int32_t* context_lengths;
  const int32_t* block_tables;
  int sequences, max_blocks, block_size;
  int heads, kv_heads, dim;
  float scale;

  __host__ __device__ int group() const { return heads / kv_heads; }
  __host__ __device__ int64_t kv_width() const { return static_cast<int64_t>(kv_heads) * dim; }
  __host__ __device__ int64_t width() const { return static_cast<int64_t>(heads) * dim; }
  __host__ __device__ int64_t qkv_width() const { return width() + 2 * kv_width(); }

  __device__ int queries(int sequence) const { return query_start[sequence + 1] - query_start[sequence]; }
  /// The row of the cache that holds a position; a product of it takes 64 bits.
  __device__ int Slot(int sequence, int position) const {
    const int32_t* const table = block_tables + static_cast<int64_t>(sequence) * max_blocks;
    return table[position / block_size] * block_size + position % block_size;
  }

  /// The last sequence of which start(sequence) <= at; starts do not fall, and the first is 0.
  template <typename Start>
  __device__ int Find(int64_t at, Start&& start) const {
    int low = 0, high = sequences;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (start(middle) <= at) {
        low = middle;
      } else {
        high = middle;
      }
    }
    return low;
  }
};

}  // namespace internvl::cuda
