// Copies of whole rows, of any type, from where a map says: each byte read once and written once.
#pragma once

#include "launch.h"
#include "row_grid.h"

namespace internvl::cuda {

/// Row r of `to` = row map(r) of `from`, or zeros where that is negative. Rows have `units` units.
template <typename Unit, typename Map>
__global__ void __launch_bounds__(RowGrid::kThreads)
    RowCopyKernel(const Unit* from, int64_t units, Map map, Unit* to) {
  const int64_t i = PackOfRow();
  if (i >= units) return;
  const int64_t source = map(blockIdx.x);
  Unit value{};
  if (source >= 0) value = from[source * units + i];
  to[blockIdx.x * units + i] = value;
}

/// In the largest units that rows of so many bytes are made of.
template <typename Map>
void CopyRows(const void* from, int64_t row_bytes, const Map& map, void* to, int64_t rows,
              cudaStream_t stream) {
  const auto copy = [&]<typename Unit>(Unit) {
    const int64_t units = row_bytes / static_cast<int64_t>(sizeof(Unit));
    const RowGrid threads(rows, units);
    if (threads.empty) return;
    Launch(RowCopyKernel<Unit, Map>, threads.grid, threads.block, 0, stream, static_cast<const Unit*>(from),
           units, map, static_cast<Unit*>(to));
  };
  if (row_bytes % 16 == 0) {
    copy(uint4{});
  } else if (row_bytes % 2 == 0) {
    copy(uint16_t{});
  } else {
    copy(uint8_t{});
  }
}

}  // namespace internvl::cuda
