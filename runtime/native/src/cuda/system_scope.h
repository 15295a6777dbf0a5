// What kernels of different devices and processes, and the host, say to each other through memory: words that
// are ordered for the whole system, time, and patience.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#ifndef __CUDACC__
#include <sched.h>

#include <atomic>
#include <chrono>
#endif

namespace internvl::cuda {

/// Whoever sees the value by LoadAcquire sees everything that came before the store: the thread's own writes
/// and, after a barrier, those of its block, as release is cumulative.
__device__ inline void StoreRelease(uint64_t* word, uint64_t value) {
#ifdef __CUDACC__
  asm volatile("st.release.sys.u64 [%0], %1;" ::"l"(word), "l"(value) : "memory");
#else
  std::atomic_ref(*word).store(value, std::memory_order_release);
#endif
}

/// What a block reads after a barrier that follows is as new as the store was: on a device it also drops what
/// the multiprocessor has cached. That memory must not be read as read-only (__ldg, const __restrict__).
__device__ inline uint64_t LoadAcquire(uint64_t* word) {
#ifdef __CUDACC__
  uint64_t value;
  asm volatile("ld.acquire.sys.u64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
  return value;
#else
  return std::atomic_ref(*word).load(std::memory_order_acquire);
#endif
}

/// Of words that order nothing else.
__device__ inline void StoreRelaxed(uint32_t* word, uint32_t value) {
#ifdef __CUDACC__
  asm volatile("st.relaxed.sys.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
#else
  std::atomic_ref(*word).store(value, std::memory_order_relaxed);
#endif
}
__device__ inline uint32_t LoadRelaxed(uint32_t* word) {
#ifdef __CUDACC__
  uint32_t value;
  asm volatile("ld.relaxed.sys.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  return value;
#else
  return std::atomic_ref(*word).load(std::memory_order_relaxed);
#endif
}

/// Time that goes on while another process has the device.
__device__ inline uint64_t Nanoseconds() {
#ifdef __CUDACC__
  uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
#else
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
#endif
}

/// Leaves the multiprocessor, or the core, to others for a moment.
__device__ inline void Pause() {
#ifdef __CUDACC__
  __nanosleep(100);
#else
  sched_yield();
#endif
}

}  // namespace internvl::cuda
