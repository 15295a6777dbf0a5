// Copies of whole rows by number: embedding and gathering.
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

}  // namespace

void CudaBackend::Embedding(const Tensor& table, const Tensor& ids, int64_t vocab_start, const Tensor& out) {
  CopyRows(table.data, table.cols() * ElementBytes(table.dtype),
           RowOfId{ids.as<int32_t>(), vocab_start, table.rows()}, out.data, ids.elements(), stream_);
}

void CudaBackend::GatherRows(const Tensor& x, const Tensor& rows, const Tensor& out) {
  CopyRows(x.data, x.cols() * ElementBytes(x.dtype), RowOfIndex{rows.as<int32_t>()}, out.data,
           rows.elements(), stream_);
}

}  // namespace internvl::cuda
