// Tiles of keys or values on their way from the cache, or from qkv, to shared memory, where they are
// bfloat16.
#pragma once

#include "async_copy.h"
#include "float8_pairs.h"
#include "paged_sequences.h"
#include "shared_tile.h"

namespace internvl::cuda {

/// Starts to copy the first `count` rows, at least one, of kRows, by kThreads threads; zeros follow them.
/// row(i) is where row i is.
template <int kDim, int kRows, int kThreads, typename Row>
__device__ void CopyRows(unsigned char* tile, int count, Row&& row) {
  constexpr int kChunks = SharedTile<kDim>::kChunks, kStep = kThreads / kChunks;
  const int chunk = static_cast<int>(threadIdx.x) % kChunks, first = static_cast<int>(threadIdx.x) / kChunks;
#pragma unroll
  for (int i = 0; i < kRows; i += kStep) {
    const BFloat16* const from = row(min(first + i, count - 1));
    CopyAsync16(tile + SharedTile<kDim>::Offset(first + i, chunk), from + chunk * 8, first + i < count);
  }
}

/// The same of rows in any type of the cache, one tile after the other: the threads Start one, wait for their
/// copies, then Finish, after which and a barrier it is there.
template <int kDim, int kRows, int kThreads, typename Element>
class TileCopy;

template <int kDim, int kRows, int kThreads>
class TileCopy<kDim, kRows, kThreads, BFloat16> {
 public:
  static constexpr int kSharedBytes = 0;
  __device__ explicit TileCopy(unsigned char*) {}

  template <typename Row>
  __device__ void Start(unsigned char* tile, int count, Row&& row) const {
    CopyRows<kDim, kRows, kThreads>(tile, count, row);
  }
  __device__ void Finish(unsigned char*) const {}
};

/// e4m3 arrives beside the tile, where each thread finds what it has copied itself, and is widened once for
/// all warps: in their fragments each of them would do it again.
template <int kDim, int kRows, int kThreads>
class TileCopy<kDim, kRows, kThreads, Float8> {
  static constexpr int kPieces = kRows * kDim / 16 / kThreads;  // of 16 bytes, of a thread

 public:
  static constexpr int kSharedBytes = kThreads * kPieces * 20;
  __device__ explicit TileCopy(unsigned char* shared) : shared_(shared) {}

  template <typename Row>
  __device__ void Start(unsigned char*, int count, Row&& row) const {
#pragma unroll 1  // addresses of several would not fit the registers that are left
    for (int i = 0; i < kPieces; ++i) {
      const Float8Row<BFloat16> from = row(min(RowOf(i), count - 1));
      CopyAsync16(Codes(i), from.codes + Chunk() * 16, RowOf(i) < count);
      CopyAsync4(Scale(i), from.scale, RowOf(i) < count);
    }
  }
  __device__ void Finish(unsigned char* tile) const {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const uint4 codes = *reinterpret_cast<const uint4*>(Codes(i));
      const float scale = *reinterpret_cast<const float*>(Scale(i));
      const uint32_t factors = ScaleFactors(scale, scale);
      Store(tile, i, 0, codes.x, codes.y, factors);
      Store(tile, i, 1, codes.z, codes.w, factors);
    }
  }

 private:
  // 8 lanes have 4 pieces of each of two rows: their stores then reach all banks.
  static constexpr int kQuads = kDim / 64;  // of pieces, in a row
  __device__ static int Chunk() {
    const int thread = static_cast<int>(threadIdx.x);
    return thread % 4 + thread / 8 % kQuads * 4;
  }
  __device__ static int RowOf(int i) {
    const int thread = static_cast<int>(threadIdx.x);
    return thread / 4 % 2 + thread / 8 / kQuads * 2 + i * (kRows / kPieces);
  }

  __device__ unsigned char* Codes(int i) const {
    return shared_ + (i * kThreads + static_cast<int>(threadIdx.x)) * 16;
  }
  __device__ unsigned char* Scale(int i) const {
    return shared_ + kPieces * kThreads * 16 + (i * kThreads + static_cast<int>(threadIdx.x)) * 4;
  }

  __device__ static void Store(unsigned char* tile, int i, int half, uint32_t low, uint32_t high,
                               uint32_t factors) {
    *reinterpret_cast<uint4*>(tile + SharedTile<kDim>::Offset(RowOf(i), 2 * Chunk() + half)) =
        make_uint4(ScaledFloat8(__byte_perm(low, 0, 0x1404), factors),
                   ScaledFloat8(__byte_perm(low, 0, 0x3424), factors),
                   ScaledFloat8(__byte_perm(high, 0, 0x1404), factors),
                   ScaledFloat8(__byte_perm(high, 0, 0x3424), factors));
  }

  unsigned char* const shared_;
};

}  // namespace internvl::cuda
