// Leaves one stack for another. Only what the calling convention keeps over a call is saved, and no system
// call is made: a barrier in a block of 1,024 threads takes as many switches.
#pragma once

#include <cstddef>
#include <cstdint>

#if !defined(__x86_64__) || !defined(__linux__)
#error "CUDA on the host switches fibers on x86-64 Linux only"
#endif

/// Saves the stack pointer into *from and goes on where `to` was saved.
extern "C" void cuda_on_host_switch(void** from, void* to);

namespace cuda_on_host {

/// A saved stack pointer with which cuda_on_host_switch enters `main`, which must not return.
inline void* FreshStack(std::byte* top, void (*main)()) {
  auto* at = reinterpret_cast<uintptr_t*>(top);
  *--at = 0;                                  // where `main` would return to
  *--at = reinterpret_cast<uintptr_t>(main);  // where the switch returns to
  for (int saved = 0; saved < 6; ++saved) *--at = 0;
  return at;
}

}  // namespace cuda_on_host
