// Sequences over the paged cache as kernels take them.
#pragma once

#include <cstdint>
#include <type_traits>

#include "../tensor.h"
#include "launch.h"
#include "packs.h"

namespace internvl::cuda {

/// A key or value, as T holds it, that is kept as e4m3. Its elements are numbers, or its scale is NaN.
template <typename T>
struct Float8Row {
  const Float8* codes;
  const float* scale;
  __device__ float operator[](int64_t d) const { return RoundedTo<T>(ToFloat(codes[d]) * *scale); }
};

/// What is in PagedSequences, PagedCache and HeadShape of backend.h, on the device. Cached: T or Float8.
template <typename T, typename Cached>
struct Pages {
  const T* qkv;
  const Cached *k_cache, *v_cache;
  const float *k_scales, *v_scales;  // of float8
  T* out;
  const int32_t* query_start;
  const int32_t* context_lengths;
  const int32_t* block_tables;
  int sequences, max_blocks, block_size, slots;
  int heads, kv_heads, dim;
  float scale;

  __host__ __device__ int group() const { return heads / kv_heads; }
  __host__ __device__ int64_t kv_width() const { return static_cast<int64_t>(kv_heads) * dim; }
  __host__ __device__ int64_t width() const { return static_cast<int64_t>(heads) * dim; }
  __host__ __device__ int64_t qkv_width() const { return width() + 2 * kv_width(); }

  __device__ int queries(int sequence) const { return query_start[sequence + 1] - query_start[sequence]; }
  /// Of the caches as rows of one head each, the row that holds a head's part of a position; a product of it
  /// takes 64 bits.
  __device__ int Row(int kv_head, int sequence, int position) const {
    const int32_t* const table = block_tables + static_cast<int64_t>(sequence) * max_blocks;
    const int slot = table[position / block_size] * block_size + position % block_size;
    return std::is_same_v<Cached, Float8> ? kv_head * slots + slot : slot * kv_heads + kv_head;
  }
  /// The key of a row, as a pointer or a Float8Row.
  __device__ auto Key(int row) const { return At(k_cache, k_scales, row); }
  __device__ auto Value(int row) const { return At(v_cache, v_scales, row); }

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

 private:
  __device__ auto At(const Cached* cache, const float* scales, int row) const {
    const Cached* const elements = cache + static_cast<int64_t>(row) * dim;
    if constexpr (std::is_same_v<Cached, Float8>) {
      return Float8Row<T>{elements, scales + row};
    } else {
      return elements;
    }
  }
};

}  // namespace internvl::cuda
