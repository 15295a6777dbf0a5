// Attention of one warp's query rows over keys and values that lie in shared memory: the tensor cores'
// products with the running maximum and sum of flash attention between them, all in registers.
//
// Scores and sums are float32; weights are rounded to bfloat16 before they meet the values, as the published
// model's attention does; their sum is of what they were before.
#pragma once

#include <cmath>

#include "shared_tile.h"
#include "tensor_core.h"

namespace internvl::cuda {

constexpr float kLog2E = 1.4426950408889634f;

/// Which warp of its block this is; the compiler sees that all lanes have the same.
__device__ inline int WarpOfBlock() {
  return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x / 32), 0);
}

/// kRowTiles * 16 query rows, kKeys keys at a time. Of each 16 rows a lane has rows lane / 4 (half 0) and
/// lane / 4 + 8 (half 1).
template <int kDim, int kRowTiles, int kKeys>
struct WarpAttention {
  static_assert(kKeys % 16 == 0);
  using Tile = SharedTile<kDim>;
  static constexpr int kTileBytes = Tile::Bytes(16);

  float output[kRowTiles][kDim / 8][4] = {};  // not yet divided by the sums
  float maximum[kRowTiles][2];                // of the scores, not yet scaled
  float sum[kRowTiles][2] = {};               // this lane's part
  float scores[kRowTiles][kKeys / 8][4];
  uint32_t weights[kRowTiles][kKeys / 8][2];  // in pairs, of each half
  const float scale;                          // positive; of scores for exponents to the base 2
  const int rows_first, columns_first;

  __device__ WarpAttention(float scale, int lane)
      : scale(scale * kLog2E), rows_first(Tile::RowsFirst(lane)), columns_first(Tile::ColumnsFirst(lane)) {
    for (auto& tile : maximum) tile[0] = tile[1] = -INFINITY;
  }

  /// Scores of q [kRowTiles * 16] with k [kKeys]; unless kAll, only the first `keys` are needed.
  template <bool kAll>
  __device__ void Score(const unsigned char* q, const unsigned char* k, int keys) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
        for (int i = 0; i < 4; ++i) scores[r][n][i] = 0.0f;
      }
    }
#pragma unroll
    for (int d = 0; d < kDim / 16; ++d) {
      uint32_t a[kRowTiles][4];
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r)
        LoadMatrixX4(a[r], q + r * kTileBytes + Tile::Across(rows_first, d));
#pragma unroll
      for (int n = 0; n < kKeys / 16; ++n) {
        if (!kAll && n * 16 >= keys) continue;
        uint32_t b[4];
        LoadMatrixX4(b, k + n * kTileBytes + Tile::Across(columns_first, d));
        const uint32_t low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) {
          MmaBf16(scores[r][2 * n], a[r], low);
          MmaBf16(scores[r][2 * n + 1], a[r], high);
        }
      }
    }
  }

  /// Turns scores into weights and scales what there is to the new maximum. Unless kAll, row i of the warp
  /// sees the first visible(i) keys only: at least one, unless it has seen one before.
  template <bool kAll, typename Visible>
  __device__ void Absorb(int lane, Visible&& visible) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if constexpr (!kAll) {
          const int seen = visible(r * 16 + half * 8 + lane / 4) - lane % 4 * 2;
#pragma unroll
          for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 2; ++i) {
              if (n * 8 + i >= seen) scores[r][n][half * 2 + i] = -INFINITY;
            }
          }
        }
        float highest = maximum[r][half];
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
          highest = fmaxf(highest, fmaxf(scores[r][n][half * 2], scores[r][n][half * 2 + 1]));
        }
        highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 1));
        highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 2));
        const float shrink = Exp2((maximum[r][half] - highest) * scale);  // 0 the first time
        maximum[r][half] = highest;
        const float offset = highest * scale;
        float total = 0.0f;
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
          const float low = Exp2(fmaf(scores[r][n][half * 2], scale, -offset));
          const float high = Exp2(fmaf(scores[r][n][half * 2 + 1], scale, -offset));
          total += low + high;
          weights[r][n][half] = PackBf16(low, high);
        }
        sum[r][half] = sum[r][half] * shrink + total;
#pragma unroll
        for (int n = 0; n < kDim / 8; ++n) {
          output[r][n][half * 2] *= shrink;
          output[r][n][half * 2 + 1] *= shrink;
        }
      }
    }
  }

  /// Adds the values v [kKeys] by the weights; unless kAll, weights are 0 from the first `keys` on, and
  /// values must be finite there.
  template <bool kAll>
  __device__ void Accumulate(const unsigned char* v, int keys) {
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
      if (!kAll && k * 16 >= keys) continue;
      uint32_t a[kRowTiles][4];
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
        for (int i = 0; i < 4; ++i) a[r][i] = weights[r][2 * k + i / 2][i % 2];
      }
#pragma unroll
      for (int n = 0; n < kDim / 16; ++n) {
        uint32_t b[4];
        LoadMatrixX4Transposed(b, v + k * kTileBytes + Tile::Across(rows_first, n));
        const uint32_t low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) {
          MmaBf16(output[r][2 * n], a[r], low);
          MmaBf16(output[r][2 * n + 1], a[r], high);
        }
      }
    }
  }

  /// This lane's part of a row of the output: of the first 16 rows' `half`.
  __device__ void StoreOutput(int half, float* row) const {
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
      *reinterpret_cast<float2*>(row + n * 8 + threadIdx.x % 4 * 2) =
          make_float2(output[0][n][half * 2], output[0][n][half * 2 + 1]);
    }
  }

  /// Makes the sums whole; every row has seen a key, or its sum is 0.
  __device__ void Finish() {
    for (auto& tile : sum) {
      for (float& part : tile) {
        part += __shfl_xor_sync(0xffffffffu, part, 1);
        part += __shfl_xor_sync(0xffffffffu, part, 2);
      }
    }
  }
};

}  // namespace internvl::cuda
