// What surrounds products of many rows whose types cuBLASLt does not multiply as they are.
#pragma once

#include "launch.h"
#include "sums_out.h"

namespace internvl::cuda {

/// Values as they are in another type: bfloat16, int8 or float8 (without their scales) to float32, int8 or
/// float8 to bfloat16. No value is rounded.
void WidenValues(const void* from, DType from_type, void* to, DType to_type, int64_t count,
                 cudaStream_t stream);

/// Stores float32 sums [rows, columns] (sums_stride between rows; they may be where they are stored).
void StoreSums(const float* sums, int64_t sums_stride, int64_t rows, int64_t columns, const SumsOut& out,
               cudaStream_t stream);

}  // namespace internvl::cuda
