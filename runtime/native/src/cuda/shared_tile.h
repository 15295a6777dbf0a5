// Rows of bfloat16 in shared memory as the tensor cores' fragments are read from them: 16-byte chunk c of row
// r lies at chunk c ^ (r % 8) of its row, so that the same chunk of 8 rows, which one 8 x 8 matrix is, comes
// from all 32 banks, and so do the 16 chunks that half a warp stores of a row.
#pragma once

#include <cstdint>

#include "launch.h"

namespace internvl::cuda {

template <int kDim>
struct SharedTile {
  static_assert(kDim % 64 == 0, "the permutation takes rows of a multiple of 8 chunks");
  static constexpr int kRowBytes = 2 * kDim;
  static constexpr int kChunks = kDim / 8;
  static constexpr int Bytes(int rows) { return rows * kRowBytes; }

  /// 8 rows further is 8 * kRowBytes more.
  __device__ static constexpr int Offset(int row, int chunk) {
    return row * kRowBytes + ((chunk ^ (row & 7)) << 4);
  }

  /// 16 * steps columns on from an offset that is in the first 16.
  __device__ static constexpr int Across(int offset, int steps) {
    // Rows are permuted in runs of 8 chunks: what follows them is an offset that an instruction can hold.
    return (offset ^ (steps % 4 * 32)) + steps / 4 * 128;
  }

  /// Where a lane's address for ldmatrix is in a tile of 16 rows and 16 columns: matrices in the order rows
  /// 0-7, rows 8-15, then the upper 8 columns.
  __device__ static constexpr int RowsFirst(int lane) { return Offset(lane % 16, lane / 16); }
  /// Matrices in the order columns 0-7, columns 8-15, then the upper 8 rows.
  __device__ static constexpr int ColumnsFirst(int lane) {
    return Offset(lane / 16 * 8 + lane % 8, lane / 8 % 2);
  }
};

}  // namespace internvl::cuda
