// Tensors as ranks send them: words of 16 bytes, the last one filled up with zeros.
#pragma once

#include "packs.h"

namespace internvl::cuda {

template <typename T>
constexpr int kPerWord = 16 / static_cast<int>(sizeof(T));

/// x has `count` elements and starts at a multiple of 16 bytes.
template <typename T>
__device__ inline uint4 LoadWord(const T* x, int word, int count) {
  const int first = word * kPerWord<T>;
  if (first + kPerWord<T> <= count) return reinterpret_cast<const uint4*>(x)[word];
  T part[kPerWord<T>];
#pragma unroll
  for (int i = 0; i < kPerWord<T>; ++i) part[i] = first + i < count ? x[first + i] : T{};
  uint4 value;
  std::memcpy(&value, part, sizeof(value));
  return value;
}

template <typename T>
__device__ inline void StoreWord(T* x, int word, int count, const uint4& value) {
  const int first = word * kPerWord<T>;
  if (first + kPerWord<T> <= count) {
    reinterpret_cast<uint4*>(x)[word] = value;
    return;
  }
  T part[kPerWord<T>];
  std::memcpy(part, &value, sizeof(value));
#pragma unroll
  for (int i = 0; i < kPerWord<T>; ++i) {
    if (first + i < count) x[first + i] = part[i];
  }
}

__device__ inline void Widen(const uint4& word, float (&to)[4]) { std::memcpy(to, &word, sizeof(to)); }
__device__ inline void Widen(const uint4& word, float (&to)[8]) {
  const uint32_t pairs[4] = {word.x, word.y, word.z, word.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    to[2 * i] = FromBits(pairs[i]);
    to[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000u);
  }
}

/// Rounds where there are 8.
__device__ inline uint4 Narrow(const float (&from)[4]) {
  return make_uint4(__float_as_uint(from[0]), __float_as_uint(from[1]), __float_as_uint(from[2]),
                    __float_as_uint(from[3]));
}
__device__ inline uint4 Narrow(const float (&from)[8]) {
  return make_uint4(RoundedPair(from[0], from[1]), RoundedPair(from[2], from[3]),
                    RoundedPair(from[4], from[5]), RoundedPair(from[6], from[7]));
}

}  // namespace internvl::cuda
