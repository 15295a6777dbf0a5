// Copies of 16 and 4 bytes from global to shared memory that run beside the computation (cp.async). A thread
// waits for its own copies only: what other threads copied is there after their wait and a barrier. It waits
// for all before it ends.
//
// On the host some are made at once and some when they are waited for, which are the earliest and the latest
// that a device makes them: a kernel that overwrites too early or waits too little gives wrong results.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#ifndef __CUDACC__
#include <vector>
#endif

namespace internvl::cuda {

#ifndef __CUDACC__
/// The copies of one thread of the running block that are still to be made.
class LateCopies {
 public:
  static LateCopies& OfThread() {
    static thread_local std::vector<LateCopies> of_threads;
    const size_t thread = threadIdx.x + (threadIdx.y + size_t{threadIdx.z} * blockDim.y) * blockDim.x;
    if (thread >= of_threads.size()) of_threads.resize(thread + 1);
    return of_threads[thread];
  }

  void Add(void* to, const void* from, size_t bytes) {
    const Copy copy{to, from, bytes, group_};
    static thread_local uint32_t count = 0;
    if (++count * 0x9e3779b9u >> 31) {
      copy.Make();
    } else {
      copies_.push_back(copy);
    }
  }
  void EndGroup() { ++group_; }
  void Wait(int groups) {
    size_t made = 0;
    while (made < copies_.size() && copies_[made].group < group_ - groups) copies_[made++].Make();
    copies_.erase(copies_.begin(), copies_.begin() + static_cast<std::ptrdiff_t>(made));
  }

 private:
  struct Copy {
    void* to;
    const void* from;  // null: zeros
    size_t bytes;      // which both addresses are multiples of
    int64_t group;
    void Make() const {
      if (bytes == sizeof(uint4)) {
        *static_cast<uint4*>(to) = from == nullptr ? uint4{} : *static_cast<const uint4*>(from);
      } else {
        *static_cast<uint32_t*>(to) = from == nullptr ? 0 : *static_cast<const uint32_t*>(from);
      }
    }
  };
  std::vector<Copy> copies_;
  int64_t group_ = 0;
};
#endif

/// Both addresses are multiples of 16. Zeros instead where `valid` is false; `from` is not read then, but
/// must be an address in global memory still.
__device__ inline void CopyAsync16(void* shared, const void* from, bool valid) {
#ifdef __CUDACC__
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(from), "r"(valid ? 16 : 0)
               : "memory");
#else
  LateCopies::OfThread().Add(shared, valid ? from : nullptr, 16);
#endif
}

/// The same of 4 bytes, aligned to 4.
__device__ inline void CopyAsync4(void* shared, const void* from, bool valid) {
#ifdef __CUDACC__
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(to), "l"(from), "r"(valid ? 4 : 0)
               : "memory");
#else
  LateCopies::OfThread().Add(shared, valid ? from : nullptr, 4);
#endif
}

/// Ends a group: the copies that this thread started since the last one, perhaps none.
__device__ inline void CommitCopies() {
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;\n" ::: "memory");
#else
  LateCopies::OfThread().EndGroup();
#endif
}

/// Waits until at most the last kGroups groups of this thread are under way.
template <int kGroups>
__device__ inline void WaitForCopies() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kGroups) : "memory");
#else
  LateCopies::OfThread().Wait(kGroups);
#endif
}

}  // namespace internvl::cuda
