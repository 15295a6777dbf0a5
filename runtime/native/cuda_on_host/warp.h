// Barriers of a block and collectives of a warp.
#pragma once

#include <source_location>

#include "kernel_language.h"

namespace cuda_on_host {

using Location = std::source_location;

/// Gives the lane `lane` its result: lanes[i] is what lane i brought, null for lanes outside the mask.
using Deliver = void (*)(const void* const (&lanes)[32], int lane, void* out);

/// Waits until every lane of the mask has come to the same place with the same mask, then `deliver` is called
/// for each of them, before any of them goes on. An error when they come to different places, or when a lane
/// of the mask has ended or does not exist.
void WarpRendezvous(unsigned mask, const void* mine, void* out, Deliver deliver, const Location& location);

/// Waits until `threads` threads of the block have come to barrier `id` (0 to 15) at the same place.
void BlockBarrier(int id, unsigned threads, const Location& location);
/// Waits until all threads of the block have.
void BlockBarrier(const Location& location);

/// Ends the launch with an error that says which thread of which block it was.
[[noreturn]] void Fail(const char* message, const Location& location);

/// What each lane of the full warp brought: for emulating instructions of a whole warp (mma, ldmatrix).
template <typename T>
void WarpExchange(const T& mine, T (&all)[32], const Location& location = Location::current()) {
  WarpRendezvous(
      0xffffffffu, &mine, &all,
      [](const void* const(&lanes)[32], int, void* out) {
        for (int i = 0; i < 32; ++i) (*static_cast<T(*)[32]>(out))[i] = *static_cast<const T*>(lanes[i]);
      },
      location);
}

template <typename T>
struct Shuffled {
  T value;
  int source;  // the lane to take from
};

template <typename T>
T Shuffle(unsigned mask, T value, int source, const Location& location) {
  const Shuffled<T> mine{value, source};
  T result = value;
  WarpRendezvous(
      mask, &mine, &result,
      [](const void* const(&lanes)[32], int lane, void* out) {
        const int source = static_cast<const Shuffled<T>*>(lanes[lane])->source;
        // A lane outside the mask has nothing to give: the result is undefined on a device.
        if (lanes[source] == nullptr) {
          std::memset(out, 0xff, sizeof(T));
        } else {
          *static_cast<T*>(out) = static_cast<const Shuffled<T>*>(lanes[source])->value;
        }
      },
      location);
  return result;
}

/// The calling thread's place in its warp.
int Lane();

}  // namespace cuda_on_host

// A collective's place is where it is called.
#define CUDA_ON_HOST_HERE const cuda_on_host::Location& location = cuda_on_host::Location::current()

inline void __syncthreads(CUDA_ON_HOST_HERE) { cuda_on_host::BlockBarrier(location); }

inline void __syncwarp(unsigned mask = 0xffffffffu, CUDA_ON_HOST_HERE) {
  cuda_on_host::WarpRendezvous(
      mask, &mask, nullptr, [](const void* const(&)[32], int, void*) {}, location);
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, CUDA_ON_HOST_HERE) {
  const int lane = cuda_on_host::Lane();
  return cuda_on_host::Shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)), location);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, CUDA_ON_HOST_HERE) {
  const int lane = cuda_on_host::Lane(), source = lane ^ lane_mask;
  // Lanes of later groups keep their own value.
  return cuda_on_host::Shuffle(mask, value, source / width > lane / width ? lane : source & 31, location);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, int delta, int width = 32, CUDA_ON_HOST_HERE) {
  const int lane = cuda_on_host::Lane(), source = lane + delta;
  return cuda_on_host::Shuffle(mask, value, source / width == lane / width ? source : lane, location);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, int delta, int width = 32, CUDA_ON_HOST_HERE) {
  const int lane = cuda_on_host::Lane(), source = lane - delta;
  return cuda_on_host::Shuffle(mask, value, source >= (lane & ~(width - 1)) ? source : lane, location);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, CUDA_ON_HOST_HERE) {
  unsigned result = 0;
  cuda_on_host::WarpRendezvous(
      mask, &predicate, &result,
      [](const void* const(&lanes)[32], int, void* out) {
        for (int i = 0; i < 32; ++i) {
          if (lanes[i] != nullptr && *static_cast<const int*>(lanes[i]) != 0)
            *static_cast<unsigned*>(out) |= 1u << i;
        }
      },
      location);
  return result;
}
inline int __any_sync(unsigned mask, int predicate, CUDA_ON_HOST_HERE) {
  return __ballot_sync(mask, predicate, location) != 0;
}
inline int __all_sync(unsigned mask, int predicate, CUDA_ON_HOST_HERE) {
  return __ballot_sync(mask, predicate, location) == mask;
}

[[noreturn]] inline void __trap(CUDA_ON_HOST_HERE) { cuda_on_host::Fail("__trap()", location); }
#undef CUDA_ON_HOST_HERE
