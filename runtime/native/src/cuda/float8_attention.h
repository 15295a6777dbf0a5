// WarpAttention over keys and values that lie in shared memory as e4m3, of warps that have theirs for
// themselves: numbers are widened, and scaled, between the loads of fragments and the products.
//
// Loads of fragments know pairs of bytes, of which a product wants bytes with the same place in their pairs
// together. What that does to the order is undone elsewhere: queries have the even columns of each 16 before
// the odd ones, and so has the output.
#pragma once

#include "float8_pairs.h"
#include "warp_attention.h"

namespace internvl::cuda {

/// Rows of e4m3 in shared memory: 16-byte chunks are permuted so that the same chunk of 8 rows comes from all
/// 32 banks.
template <int kDim>
struct Float8Tile {
  static_assert(kDim == 64 || kDim == 128);
  static constexpr int kChunks = kDim / 16;
  static constexpr int Bytes(int rows) { return rows * kDim; }
  __device__ static constexpr int Offset(int row, int chunk) {
    return row * kDim + ((chunk ^ (row * kDim / 128 & (kChunks - 1))) << 4);
  }
  /// 32 * steps columns on from an offset in the first 32; 16 rows further is Bytes(16) more.
  __device__ static constexpr int Across(int offset, int steps) { return offset ^ (steps * 32); }
};

/// 8 of 16 columns of a row of bfloat16, from two chunks in order: the even ones, or the odd ones.
__device__ inline uint4 EvenColumns(const uint4& low, const uint4& high) {
  return make_uint4(__byte_perm(low.x, low.y, 0x5410), __byte_perm(low.z, low.w, 0x5410),
                    __byte_perm(high.x, high.y, 0x5410), __byte_perm(high.z, high.w, 0x5410));
}
__device__ inline uint4 OddColumns(const uint4& low, const uint4& high) {
  return make_uint4(__byte_perm(low.x, low.y, 0x7632), __byte_perm(low.z, low.w, 0x7632),
                    __byte_perm(high.x, high.y, 0x7632), __byte_perm(high.z, high.w, 0x7632));
}

template <int kDim, int kKeys>
struct Float8WarpAttention : WarpAttention<kDim, 1, kKeys> {
  using Base = WarpAttention<kDim, 1, kKeys>;
  using Codes = Float8Tile<kDim>;
  const int lane, keys_first, values_first;  // offsets of this lane's addresses for loads of fragments

  __device__ Float8WarpAttention(float scale, int lane)
      : Base(scale, lane),
        lane(lane),
        keys_first(Codes::Offset(lane / 16 * 8 + lane % 8, lane / 8 % 2)),
        values_first(Codes::Offset(lane % 16, lane / 16)) {}

  /// Scores of q [16], even columns first, with k [kKeys] and their scales.
  __device__ void Score(const unsigned char* q, const unsigned char* k, const float* scales) {
    uint32_t factors[kKeys / 8];
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
      const float scale = scales[n * 8 + lane / 4];
      factors[n] = ScaleFactors(scale, scale);
      for (int i = 0; i < 4; ++i) this->scores[0][n][i] = 0.0f;
    }
#pragma unroll
    for (int d = 0; d < kDim / 32; ++d) {
      uint32_t a[2][4];
      LoadMatrixX4(a[0], q + SharedTile<kDim>::Across(this->rows_first, 2 * d));
      LoadMatrixX4(a[1], q + SharedTile<kDim>::Across(this->rows_first, 2 * d + 1));
#pragma unroll
      for (int n = 0; n < kKeys / 8; n += 2) {
        uint32_t codes[4];  // of keys 8 n, both times 16 columns, then of the next 8
        LoadMatrixX4(codes, k + Codes::Bytes(n * 8) + Codes::Across(keys_first, d));
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const uint32_t b[2] = {ScaledFloat8(codes[i] << 8, factors[n + i / 2]),
                                 ScaledFloat8(codes[i], factors[n + i / 2])};
          MmaBf16(this->scores[0][n + i / 2], a[i % 2], b);
        }
      }
    }
  }

  /// Adds the values v [kKeys], times their scales, by the weights; they must be finite where weights are 0.
  __device__ void Accumulate(const unsigned char* v, const float* scales) {
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
      uint32_t a[4], factors[2];
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] = this->weights[0][2 * k + i / 2][i % 2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float2 pair = *reinterpret_cast<const float2*>(scales + k * 16 + i * 8 + lane % 4 * 2);
        factors[i] = ScaleFactors(pair.x, pair.y);
      }
#pragma unroll
      for (int d = 0; d < kDim / 32; ++d) {
        uint32_t codes[4];  // of 16 columns, both times 8 values, then of the next 16
        LoadMatrixX4Transposed(codes, v + Codes::Bytes(k * 16) + Codes::Across(values_first, d));
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const uint32_t even[2] = {ScaledFloat8(codes[2 * i] << 8, factors[0]),
                                    ScaledFloat8(codes[2 * i + 1] << 8, factors[1])};
          const uint32_t odd[2] = {ScaledFloat8(codes[2 * i], factors[0]),
                                   ScaledFloat8(codes[2 * i + 1], factors[1])};
          MmaBf16(this->output[0][4 * d + 2 * i], a, even);
          MmaBf16(this->output[0][4 * d + 2 * i + 1], a, odd);
        }
      }
    }
  }

  /// This lane's part of a row of the output, in the columns' own order.
  __device__ void StoreOutput(int half, float* row) const {
#pragma unroll
    for (int c = 0; c < kDim / 16; ++c) {
      const float* const even = this->output[0][2 * c] + half * 2;
      const float* const odd = this->output[0][2 * c + 1] + half * 2;
      *reinterpret_cast<float4*>(row + c * 16 + lane % 4 * 4) = make_float4(even[0], odd[0], even[1], odd[1]);
    }
  }
};

}  // namespace internvl::cuda
