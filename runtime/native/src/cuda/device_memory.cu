#include "capture_mode.h"
#include "device_memory.h"

namespace internvl::cuda {

OutOfDeviceMemory::OutOfDeviceMemory(size_t bytes) {
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  message_ = "out of device memory: asked for " + std::to_string(bytes) + " bytes, " + std::to_string(free) +
             " of " + std::to_string(total) + " are free";
}

DeviceMemory::DeviceMemory() {
  Check(cudaStreamCreateWithFlags(&zeroing_, cudaStreamNonBlocking), "cudaStreamCreate");
}

// After a fault of the device everything fails, freeing too, and the driver gives the memory back when the
// process ends.
DeviceMemory::~DeviceMemory() { cudaStreamDestroy(zeroing_); }

std::byte* DeviceMemory::Take(size_t bytes) {
  const AllowAllocations allow;
  void* data = nullptr;
  const cudaError_t code = cudaMalloc(&data, bytes);
  if (code == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // handled: it must not turn up after the next launch
    throw OutOfDeviceMemory(bytes);
  }
  Check(code, "cudaMalloc");
  try {
    Check(cudaMemsetAsync(data, 0, bytes, zeroing_), "cudaMemset");
    Check(cudaStreamSynchronize(zeroing_), "cudaMemset");
  } catch (...) {
    cudaFree(data);
    throw;
  }
  return static_cast<std::byte*>(data);
}

void DeviceMemory::Give(std::byte* data, size_t) {
  const AllowAllocations allow;
  cudaFree(data);
}

}  // namespace internvl::cuda
