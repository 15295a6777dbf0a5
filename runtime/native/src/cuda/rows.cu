// Copies of whole rows by number: embedding and gathering. And the numbers themselves.
#include "cuda_backend.h"
#include "row_copy.h"

namespace internvl::cuda {
namespace {

struct RowOfId {
  const int32_t* ids;
  int64_t vocab_start, vocab;

  __device__ int64_t operator()(int64_t i) const {
    const int64_t row = ids[i] - vocab_start;
    return row < vocab ? row : -1;
  }
};

struct RowOfIndex {
  const int32_t* rows;

  __device__ int64_t operator()(int64_t i) const { return rows[i]; }
};

constexpr int kIdsOfBlock = 256;

__global__ void ResolveIdsKernel(int32_t* ids, int64_t count, const int32_t* last, int64_t rows) {
  const int64_t i = int64_t{blockIdx.x} * kIdsOfBlock + threadIdx.x;
  if (i >= count || ids[i] >= 0) return;
  const int64_t row = -1 - int64_t{ids[i]};
  if (row < rows) ids[i] = last[row];
}

}  // namespace

void CudaBackend::ResolveIds(const Tensor& ids, const Tensor& last) {
  const int64_t count = ids.elements();
  if (count == 0) return;
  Launch(ResolveIdsKernel, static_cast<unsigned>((count + kIdsOfBlock - 1) / kIdsOfBlock), kIdsOfBlock, 0,
         stream_, ids.as<int32_t>(), count, last.as<int32_t>(), last.rows());
}

void CudaBackend::Embedding(const Tensor& table, const Tensor& ids, int64_t vocab_start, const Tensor& out) {
  CopyRows(table.data, table.cols() * ElementBytes(table.dtype),
           RowOfId{ids.as<int32_t>(), vocab_start, table.rows()}, out.data, ids.elements(), stream_);
}

void CudaBackend::GatherRows(const Tensor& x, const Tensor& rows, const Tensor& out) {
  CopyRows(x.data, x.cols() * ElementBytes(x.dtype), RowOfIndex{rows.as<int32_t>()}, out.data,
           rows.elements(), stream_);
}

}  // namespace internvl::cuda
