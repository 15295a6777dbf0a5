// Launches of kernels: what a device would refuse, shared memory, and faults turned into errors.
#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>

#include "allocations.h"
#include "block.h"
#include "device.h"
#include "streams.h"

namespace cuda_on_host {
namespace {

/// The largest dynamic shared memory that a kernel has been allowed.
class SharedLimits {
 public:
  static SharedLimits& Instance() {
    static auto* limits = new SharedLimits;
    return *limits;
  }
  void Set(const void* kernel, size_t bytes) {
    const std::lock_guard lock(mutex_);
    bytes_[kernel] = bytes;
  }
  size_t Get(const void* kernel) {
    const std::lock_guard lock(mutex_);
    const auto found = bytes_.find(kernel);
    return found == bytes_.end() ? kSharedBytes : found->second;
  }

 private:
  std::mutex mutex_;
  std::map<const void*, size_t> bytes_;
};

/// Dynamic shared memory ends at a page that cannot be touched.
class SharedMemory {
 public:
  static SharedMemory& Current() {
    static thread_local SharedMemory memory;
    return memory;
  }
  SharedMemory() {
    void* mapped = mmap(nullptr, kBytes + kGuard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    start_ = static_cast<std::byte*>(mapped);
    mprotect(start_ + kBytes, kGuard, PROT_NONE);
  }
  ~SharedMemory() { munmap(start_, kBytes + kGuard); }
  void Fill(size_t bytes) {
    data_ = start_ + kBytes - (bytes + 127) / 128 * 128;
    std::memset(data_, 0xff, static_cast<size_t>(start_ + kBytes - data_));
  }
  std::byte* data() const { return data_; }
  bool Guards(const void* address) const {
    return address >= start_ + kBytes && address < start_ + kBytes + kGuard;
  }

 private:
  static constexpr size_t kBytes = 228 << 10, kGuard = 4096;
  std::byte* start_;
  std::byte* data_ = nullptr;
};

/// A fault in the middle of a kernel ends the kernel; any other goes where it went before.
class FaultHandler {
 public:
  FaultHandler() {
    struct sigaction action {};
    action.sa_sigaction = Handle;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;  // left by a switch of stacks, not by returning
    for (size_t i = 0; i < 3; ++i) sigaction(kSignals[i], &action, &before_[i]);
  }
  ~FaultHandler() {
    for (size_t i = 0; i < 3; ++i) sigaction(kSignals[i], &before_[i], nullptr);
  }

 private:
  static constexpr int kSignals[3] = {SIGSEGV, SIGBUS, SIGILL};

  static void Handle(int signal, siginfo_t* info, void*) {
    Block& block = Block::Current();
    if (!block.running()) {
      struct sigaction action {};
      action.sa_handler = SIG_DFL;
      sigaction(signal, &action, nullptr);
      return;  // and faults again
    }
    if (signal == SIGILL) block.Fail("a trap: a misaligned access or __trap", nullptr);
    if (SharedMemory::Current().Guards(info->si_addr)) {
      block.Fail("an access outside its shared memory", nullptr);
    }
    const std::string where = DescribeAddress(info->si_addr);
    block.Fail(where.empty() ? "an access to an address that is not of the device" : "an access " + where,
               nullptr);
  }

  struct sigaction before_[3];
};

std::atomic<long long> launches{0};

void Execute(dim3 grid, dim3 block, size_t shared, long long nth, const std::function<void()>& run) {
  const char* failing = std::getenv("CUDA_ON_HOST_FAIL_LAUNCH");
  if (failing != nullptr && (std::strcmp(failing, "next") == 0 || std::atoll(failing) == nth)) {
    Break(cudaErrorLaunchFailure, "launch " + std::to_string(nth) + " was told to fail");
    return;
  }
  // One thread at a time: handlers of signals are the process's.
  static auto* one_at_a_time = new std::mutex;
  const std::lock_guard lock(*one_at_a_time);
  const FaultHandler handler;
  try {
    for (unsigned z = 0; z < grid.z; ++z) {
      for (unsigned y = 0; y < grid.y; ++y) {
        for (unsigned x = 0; x < grid.x; ++x) {
          SharedMemory::Current().Fill(shared);
          // Neither order for long, and never another one in a second run.
          const bool backwards = ((nth * 7 + x + y * 3 + z * 5) / 2) % 2 == 0;
          Block::Current().Run(grid, block, {x, y, z}, backwards, run);
        }
      }
    }
  } catch (const KernelFailure& failure) {
    Break(cudaErrorLaunchFailure, failure.what());
  }
}

bool Possible(const void* kernel, dim3 grid, dim3 block, size_t shared) {
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  return threads > 0 && block.x <= 1024 && block.y <= 1024 && block.z <= 64 && threads <= 1024 &&
         grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 0x7fffffffu && grid.y <= 65535 &&
         grid.z <= 65535 && shared <= SharedLimits::Instance().Get(kernel);
}

}  // namespace

void Launch(const void* kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
            std::function<void()> run) {
  if (!Possible(kernel, grid, block, shared)) {
    Report(cudaErrorInvalidConfiguration);
    return;
  }
  Enqueue(stream, [=, run = std::move(run)] { Execute(grid, block, shared, ++launches, run); });
}

long long Launches() { return launches; }

void* DynamicShared() { return SharedMemory::Current().data(); }

}  // namespace cuda_on_host

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  using namespace cuda_on_host;
  if (value < 0 || static_cast<size_t>(value) > kMaxSharedBytes) return Report(cudaErrorInvalidValue);
  SharedLimits::Instance().Set(kernel, static_cast<size_t>(value));
  return Broken();
}
