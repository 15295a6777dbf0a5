// Which of several ways to the same result is the fastest on this device.
#pragma once

#include <cstddef>
#include <functional>

#include "../memory.h"
#include "launch.h"

namespace internvl::cuda {

/// So much memory, written, displaces all that the device's cache had.
size_t BytesToFlush();

/// The index of the fastest of `count` ways; `run(i)` queues way i, or returns false where it cannot. Each
/// starts with a cold cache (`flush`, of BytesToFlush() bytes, is written before), as weights are found
/// between one step and the next. Waits for the stream. `count` where none can.
size_t FastestOf(size_t count, cudaStream_t stream, const Memory& flush,
                 const std::function<bool(size_t)>& run);

}  // namespace internvl::cuda
