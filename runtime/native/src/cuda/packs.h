// Elements of rows as kernels move them: packs of 8 (one access of 16 bytes for bfloat16, two for float32),
// or single ones where a row's width is no multiple of 8. Arithmetic is float32; nothing is computed in
// bfloat16 itself.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../tensor.h"

namespace internvl::cuda {

constexpr int kPack = 8;

__device__ inline float FromBits(uint32_t upper_half) { return __uint_as_float(upper_half << 16); }

/// What T holds of the value.
template <typename T>
__device__ inline float RoundedTo(float value) {
  if constexpr (std::is_same_v<T, float>) return value;
  return FromBits(__bfloat16_as_ushort(__float2bfloat16_rn(value)));
}

// Starts of tensors are aligned to 64 bytes, and so are packs to 16 (bfloat16) or 32.
__device__ inline void LoadPack(const float* from, float (&to)[1]) { to[0] = *from; }
__device__ inline void LoadPack(const BFloat16* from, float (&to)[1]) { to[0] = FromBits(from->bits); }
__device__ inline void LoadPack(const float* from, float (&to)[kPack]) {
  const auto* quads = reinterpret_cast<const float4*>(from);
  const float4 low = quads[0], high = quads[1];
  to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
  to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}
__device__ inline void LoadPack(const BFloat16* from, float (&to)[kPack]) {
  const uint4 packed = *reinterpret_cast<const uint4*>(from);
  const uint32_t pairs[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    to[2 * i] = FromBits(pairs[i]);
    to[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000u);
  }
}

// Stores round to nearest, ties to even.
__device__ inline void StorePack(const float (&from)[1], float* to) { *to = from[0]; }
__device__ inline void StorePack(const float (&from)[1], BFloat16* to) {
  to->bits = __bfloat16_as_ushort(__float2bfloat16_rn(from[0]));
}
__device__ inline void StorePack(const float (&from)[kPack], float* to) {
  auto* quads = reinterpret_cast<float4*>(to);
  quads[0] = make_float4(from[0], from[1], from[2], from[3]);
  quads[1] = make_float4(from[4], from[5], from[6], from[7]);
}
__device__ inline uint32_t RoundedPair(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  uint32_t bits;
  std::memcpy(&bits, &pair, sizeof(bits));
  return bits;
}
__device__ inline void StorePack(const float (&from)[kPack], BFloat16* to) {
  *reinterpret_cast<uint4*>(to) = make_uint4(RoundedPair(from[0], from[1]), RoundedPair(from[2], from[3]),
                                             RoundedPair(from[4], from[5]), RoundedPair(from[6], from[7]));
}

/// A vector of parameters of either type: the branch is the same for all threads.
struct Parameters {
  const void* data = nullptr;
  bool bfloat16 = false;

  Parameters() = default;
  explicit Parameters(const Tensor& vector) : data(vector.data), bfloat16(vector.dtype == DType::kBFloat16) {}
  explicit Parameters(const Tensor* vector) {
    if (vector != nullptr) *this = Parameters(*vector);
  }

  template <int N>
  __device__ void Load(int64_t first, float (&to)[N]) const {
    if (bfloat16) {
      LoadPack(static_cast<const BFloat16*>(data) + first, to);
    } else {
      LoadPack(static_cast<const float*>(data) + first, to);
    }
  }
};

/// Calls f with std::integral_constant of the largest pack that rows of this width are made of.
template <typename F>
void WithPacks(int64_t width, F&& f) {
  if (width % kPack == 0) {
    f(std::integral_constant<int, kPack>());
  } else {
    f(std::integral_constant<int, 1>());
  }
}

}  // namespace internvl::cuda
