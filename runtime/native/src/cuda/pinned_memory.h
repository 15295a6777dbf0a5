// Host memory that the device reads and writes itself, without a copy by the driver.
#pragma once

#include <cstddef>
#include <utility>

#include "capture_mode.h"
#include "launch.h"

namespace internvl::cuda {

class PinnedMemory {
 public:
  explicit PinnedMemory(size_t bytes) : bytes_(bytes) {
    const AllowAllocations allow;
    void* data = nullptr;
    Check(cudaMallocHost(&data, bytes), "cudaMallocHost");
    data_ = static_cast<std::byte*>(data);
  }
  PinnedMemory(PinnedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  PinnedMemory& operator=(PinnedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~PinnedMemory() {
    if (data_ == nullptr) return;
    const AllowAllocations allow;
    cudaFreeHost(data_);
  }

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace internvl::cuda
