// Memory of the pretended device and pinned memory. Each allocation lies between pages that cannot be
// touched, its last bytes up to such a page hold a pattern that is checked when it is freed, and it starts as
// NaN.
#pragma once

#include <cstddef>
#include <string>

#include "runtime_api.h"

namespace cuda_on_host {

struct DeviceMemoryState {
  size_t used, total;
};
DeviceMemoryState MemoryOfDevice();

enum class Space { kPageable, kDevice, kPinned };
struct Range {
  Space space = Space::kPageable;
  /// Whether all of it lies in one allocation; pageable memory is not known.
  bool whole = true;
};
/// Where `bytes` bytes from `address` on lie.
Range Find(const void* address, size_t bytes);

/// The pages between the guards of the device's allocation that starts at `address`; none: there is none.
struct Pages {
  std::byte* first = nullptr;
  size_t bytes = 0;
};
Pages PagesOf(const void* address);

/// "7 bytes after 4096 bytes of device memory", or "" for an address that is near no allocation.
std::string DescribeAddress(const void* address);

/// How many allocations of the device are alive: for tests that look for leaks.
size_t LiveAllocations();

}  // namespace cuda_on_host
