// The one door to CUDA: open_cuda.cc where the addon is built with it, no_cuda.cc elsewhere.
#pragma once

#include <memory>

#include "backend.h"

namespace internvl {

/// Throws DeviceError saying what is missing: CUDA in this build, a driver, a driver that is new enough, such
/// a device.
std::unique_ptr<Backend> OpenCuda(int device);

}  // namespace internvl
