// A device's memory as a source of the arena's and of tensors'.
#pragma once

#include <new>
#include <string>

#include "../memory.h"
#include "launch.h"

namespace internvl::cuda {

/// Says how many bytes were asked for, and how many there are.
class OutOfDeviceMemory final : public std::bad_alloc {
 public:
  explicit OutOfDeviceMemory(size_t bytes);
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

/// Of the calling thread's device. May be used while a stream captures.
class DeviceMemory final : public MemorySource {
 public:
  DeviceMemory();
  ~DeviceMemory() override;
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  /// Zeroed, aligned to 256 bytes. Throws OutOfDeviceMemory.
  std::byte* Take(size_t bytes) override;
  /// Waits for the device.
  void Give(std::byte* data, size_t bytes) override;

 private:
  cudaStream_t zeroing_;  // of its own: a stream that captures would only record it
};

}  // namespace internvl::cuda
