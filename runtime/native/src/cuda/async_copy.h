// Copies of 16 bytes from global to shared memory that run beside the computation (cp.async). A thread waits
// for its own copies only: what other threads copied is there after their wait and a barrier.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

namespace internvl::cuda {

/// Both addresses are multiples of 16. Zeros instead where `valid` is false; `from` is not read then, but must
/// be an address in global memory still.
__device__ inline void CopyAsync16(void* shared, const void* from, bool valid) {
#ifdef __CUDACC__
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(from), "r"(valid ? 16 : 0)
               : "memory");
#else
  if (valid) {
    std::memcpy(shared, from, 16);
  } else {
    std::memset(shared, 0, 16);
  }
#endif
}

/// Ends a group: the copies that this thread started since the last one, perhaps none.
__device__ inline void CommitCopies() {
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

/// Waits until at most the last kGroups groups of this thread are under way.
template <int kGroups>
__device__ inline void WaitForCopies() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kGroups) : "memory");
#endif
}

}  // namespace internvl::cuda
