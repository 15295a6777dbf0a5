#include "allocations.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>

#include "device.h"
#include "shared_memory.h"
#include "streams.h"

namespace cuda_on_host {
namespace {

constexpr size_t kPage = 4096, kAlign = 256;
constexpr size_t kUnlimited = size_t{64} << 30;
constexpr std::byte kCanary{0xa5};

struct Allocation {
  size_t bytes;
  size_t mapped;  // with its guard pages
  Space space;
};

struct Table {
  std::mutex mutex;
  std::map<uintptr_t, Allocation> by_start;
  size_t device_bytes = 0, device_count = 0;
};
// Never destroyed: threads may free after main has returned.
Table& TheTable() {
  static auto* table = new Table;
  return *table;
}

size_t Limit() {
  return static_cast<size_t>(FromEnvironment("CUDA_ON_HOST_MEMORY", static_cast<long long>(kUnlimited)));
}

size_t RoundUp(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

/// [guard page | slack | bytes, rounded up to 256 | guard page]
size_t MappedBytes(size_t bytes) { return RoundUp(RoundUp(bytes, kAlign), kPage) + 2 * kPage; }

cudaError_t Take(void** pointer, size_t bytes, Space space) {
  *pointer = nullptr;
  if (const cudaError_t error = RefuseInCapture(); error != cudaSuccess) return error;
  if (Broken() != cudaSuccess) return Broken();
  if (bytes == 0) return cudaSuccess;
  Table& table = TheTable();
  const std::lock_guard lock(table.mutex);
  if (bytes > kUnlimited || (space == Space::kDevice && bytes + table.device_bytes > Limit()))
    return Report(cudaErrorMemoryAllocation);
  const size_t mapped = MappedBytes(bytes), inner = RoundUp(bytes, kAlign);
  void* pages =
      mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) return Report(cudaErrorMemoryAllocation);
  auto* first = static_cast<std::byte*>(pages);
  mprotect(first, kPage, PROT_NONE);
  mprotect(first + mapped - kPage, kPage, PROT_NONE);
  std::byte* start = first + mapped - kPage - inner;
  std::memset(start, 0xff, bytes);  // NaN, as float32 and as bfloat16
  std::memset(start + bytes, static_cast<int>(kCanary), inner - bytes);
  table.by_start.emplace(reinterpret_cast<uintptr_t>(start), Allocation{bytes, mapped, space});
  if (space == Space::kDevice) {
    table.device_bytes += bytes;
    ++table.device_count;
  }
  *pointer = start;
  return cudaSuccess;
}

cudaError_t Give(void* pointer, Space space) {
  if (pointer == nullptr) return cudaSuccess;
  if (const cudaError_t error = RefuseInCapture(); error != cudaSuccess) return error;
  RunEverything();  // as cudaFree waits for the device
  Table& table = TheTable();
  const std::lock_guard lock(table.mutex);
  const auto found = table.by_start.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == table.by_start.end() || found->second.space != space) return Report(cudaErrorInvalidValue);
  const Allocation allocation = found->second;
  table.by_start.erase(found);
  if (space == Space::kDevice) {
    table.device_bytes -= allocation.bytes;
    --table.device_count;
  }
  auto* start = static_cast<std::byte*>(pointer);
  const size_t inner = RoundUp(allocation.bytes, kAlign);
  cudaError_t error = Broken();
  for (size_t i = allocation.bytes; i < inner; ++i) {
    if (start[i] == kCanary) continue;
    error = Break(cudaErrorIllegalAddress, "something wrote " + std::to_string(i - allocation.bytes) +
                                               " bytes after the end of an allocation of " +
                                               std::to_string(allocation.bytes) + " bytes");
    break;
  }
  ForgetShared(start);
  munmap(start + inner + kPage - allocation.mapped, allocation.mapped);
  return error;
}

}  // namespace

DeviceMemoryState MemoryOfDevice() {
  Table& table = TheTable();
  const std::lock_guard lock(table.mutex);
  return {table.device_bytes, Limit()};
}

Range Find(const void* address, size_t bytes) {
  Table& table = TheTable();
  const std::lock_guard lock(table.mutex);
  const auto at = reinterpret_cast<uintptr_t>(address);
  auto after = table.by_start.upper_bound(at);
  if (after == table.by_start.begin()) return {};
  const auto& [start, allocation] = *--after;
  if (at >= start + RoundUp(allocation.bytes, kAlign)) return {};
  return {allocation.space,
          at - start <= allocation.bytes && bytes <= allocation.bytes - static_cast<size_t>(at - start)};
}

Pages PagesOf(const void* address) {
  Table& table = TheTable();
  const std::lock_guard lock(table.mutex);
  const auto found = table.by_start.find(reinterpret_cast<uintptr_t>(address));
  if (found == table.by_start.end() || found->second.space != Space::kDevice) return {};
  const Allocation& allocation = found->second;
  const uintptr_t end = found->first + RoundUp(allocation.bytes, kAlign);
  const size_t bytes = allocation.mapped - 2 * kPage;
  return {reinterpret_cast<std::byte*>(end - bytes), bytes};
}

// Called by a signal handler in the middle of a kernel, when nothing holds the table.
std::string DescribeAddress(const void* address) {
  Table& table = TheTable();
  const auto at = reinterpret_cast<uintptr_t>(address);
  for (const auto& [start, allocation] : table.by_start) {
    const std::string what = std::to_string(allocation.bytes) + " bytes of " +
                             (allocation.space == Space::kDevice ? "device" : "pinned") + " memory";
    const uintptr_t end = start + allocation.bytes, guard = start + RoundUp(allocation.bytes, kAlign);
    if (at >= guard && at < guard + kPage) return std::to_string(at - end) + " bytes after " + what;
    const uintptr_t front = guard + kPage - allocation.mapped;
    if (at >= front && at < front + kPage) return std::to_string(start - at) + " bytes before " + what;
  }
  return "";
}

size_t LiveAllocations() {
  Table& table = TheTable();
  const std::lock_guard lock(table.mutex);
  return table.device_count;
}

}  // namespace cuda_on_host

using namespace cuda_on_host;

cudaError_t cudaMalloc(void** pointer, size_t bytes) { return Take(pointer, bytes, Space::kDevice); }
cudaError_t cudaFree(void* pointer) { return Give(pointer, Space::kDevice); }
cudaError_t cudaMallocHost(void** pointer, size_t bytes) { return Take(pointer, bytes, Space::kPinned); }
cudaError_t cudaFreeHost(void* pointer) { return Give(pointer, Space::kPinned); }
