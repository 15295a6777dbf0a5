// How kernels are written here, so that one source compiles with nvcc for a device and with a plain C++
// compiler for the tests, which run every thread of a block as a fiber (runtime/native/cuda_on_host):
// - launched by Launch(kernel, grid, block, shared bytes, stream, arguments...),
// - dynamic shared memory by DynamicShared<T>(), which a kernel may have more than 48 KB of after
//   AllowDynamicShared(kernel, bytes),
// - inline PTX only in tensor_core.h, float8_pairs.h, async_copy.h and system_scope.h, beside what does the
//   same on the host.
#pragma once

#include <cuda_runtime.h>

#include "../backend.h"

namespace internvl::cuda {

/// Throws DeviceError unless code is cudaSuccess.
void Check(cudaError_t code, const char* what);

/// Holds for the current device from here on; a captured stream does not notice.
template <typename... Parameters>
void AllowDynamicShared(void (*kernel)(Parameters...), size_t bytes) {
  Check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "more shared memory for a kernel");
}

#ifdef __CUDACC__
template <typename... Parameters, typename... Arguments>
void Launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            Arguments... arguments) {
  kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Parameters>(arguments)...);
  Check(cudaGetLastError(), "kernel launch");
}

template <typename T>
__device__ T* DynamicShared() {
  extern __shared__ __align__(128) unsigned char dynamic_shared_bytes[];
  return reinterpret_cast<T*>(dynamic_shared_bytes);
}
#else
template <typename... Parameters, typename... Arguments>
void Launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            Arguments... arguments) {
  // Arguments are copied: a captured launch runs later.
  cuda_on_host::Launch(reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, stream,
                       [=] { kernel(static_cast<Parameters>(arguments)...); });
  Check(cudaGetLastError(), "kernel launch");
}

template <typename T>
T* DynamicShared() {
  return static_cast<T*>(cuda_on_host::DynamicShared());
}
#endif

}  // namespace internvl::cuda
