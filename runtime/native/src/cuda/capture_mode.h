// Allocating while a stream captures: what allocates is not captured, so it may.
#pragma once

#include <cuda_runtime.h>

namespace internvl::cuda {

/// While it lives, this thread's captures do not forbid allocations.
class AllowAllocations {
 public:
  AllowAllocations() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  ~AllowAllocations() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  AllowAllocations(const AllowAllocations&) = delete;
  AllowAllocations& operator=(const AllowAllocations&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

}  // namespace internvl::cuda
