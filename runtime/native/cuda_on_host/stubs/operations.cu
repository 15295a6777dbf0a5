// In place of the operations that src/cuda/ does not have yet.
#include "../../src/cuda/cuda_backend.h"

namespace internvl::cuda {

void CudaBackend::Linear(const Tensor&, const Tensor&, const Tensor*, const Tensor&) {
  throw DeviceError("linear is not there yet");
}
void CudaBackend::VisionAttention(const Tensor&, int64_t, int64_t, int64_t, float, const Tensor&) {
  throw DeviceError("visionAttention is not there yet");
}
void CudaBackend::PagedAttention(const Tensor&, const PagedCache&, const PagedSequences&, const HeadShape&, float,
                                 const Tensor&) {
  throw DeviceError("pagedAttention is not there yet");
}

}  // namespace internvl::cuda
