// Threads for every pack of some rows: blockIdx.x is the row, of which blockIdx.y says the part, so that a
// few long rows spread over the device as many short ones do, and no thread divides.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace internvl::cuda {

struct RowGrid {
  static constexpr int64_t kThreads = 256;

  /// packs: of a row
  RowGrid(int64_t rows, int64_t packs)
      : empty(rows == 0 || packs == 0),
        block(static_cast<unsigned>(packs < kThreads ? (packs + 31) / 32 * 32 : kThreads)),
        grid(static_cast<unsigned>(rows), static_cast<unsigned>((packs + kThreads - 1) / kThreads)) {}

  bool empty;  // nothing to launch
  dim3 block, grid;
};

/// The calling thread's pack of its row.
__device__ inline int64_t PackOfRow() { return int64_t{blockIdx.y} * blockDim.x + threadIdx.x; }

}  // namespace internvl::cuda
