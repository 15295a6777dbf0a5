// Causal attention over the paged cache.
#pragma once

#include "../backend.h"
#include "launch.h"

namespace internvl::cuda {

/// What is in backend.h under PagedAttention. `scratch` may be given back when this returns: the next work of
/// the stream comes after.
///
/// How many blocks are launched depends on shapes alone: heads, rows, sequences and max_blocks. Which kernels
/// are depends on `sequences` in two things: whether any of them has one row, and whether any has several. So
/// a captured launch may be replayed for other sequences in as many rows, with other contexts and tables in
/// the same tensors, as long as these two are as they were; when each has one row they are.
void AttendPages(const Tensor& qkv, const PagedCache& cache, const PagedSequences& sequences,
                 const HeadShape& heads, float scale, const Tensor& out, int multiprocessors,
                 Scratch& scratch, cudaStream_t stream);

}  // namespace internvl::cuda
