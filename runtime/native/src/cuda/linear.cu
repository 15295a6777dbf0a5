#include "cuda_backend.h"
#include "matmul.h"

namespace internvl::cuda {

int64_t CudaBackend::Tune(bool on) {
  matmul_->Measure(on);
  return matmul_->measured();
}

std::vector<int64_t> CudaBackend::RowRanges(int64_t most) const { return LtProducts::RowRanges(most); }

void CudaBackend::Linear(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out) {
  matmul_->Run(x, weight, bias, out, arena());
}

}  // namespace internvl::cuda
