// The pretended device, and errors as CUDA keeps them.
#pragma once

#include <cstddef>
#include <string>

#include "cuda_runtime.h"

namespace cuda_on_host {

constexpr size_t kMaxSharedBytes = 227 << 10;  // of a block that asks for it, as on compute capability 9.0
constexpr size_t kSharedBytes = 48 << 10;      // of one that does not

/// The environment variable's number, or `otherwise` when it is unset.
long long FromEnvironment(const char* name, long long otherwise);

/// Remembers `error` for cudaGetLastError of this thread and returns it.
cudaError_t Report(cudaError_t error);
/// From now on everything fails with `error`, as after a fault on a device; `message` says which.
cudaError_t Break(cudaError_t error, const std::string& message);
/// cudaSuccess, or what the device broke with.
cudaError_t Broken();

/// Kernels that have run so far in this process.
long long Launches();

/// Forgets errors, so that one test process can make several.
void Mend();

}  // namespace cuda_on_host
