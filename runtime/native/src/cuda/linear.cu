#include "cuda_backend.h"
#include "matmul.h"

namespace internvl::cuda {

void CudaBackend::Tune(bool on) { matmul_->Measure(on); }

void CudaBackend::Linear(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out) {
  matmul_->Run(x, weight, bias, out, arena());
}

}  // namespace internvl::cuda
