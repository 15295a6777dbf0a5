// CUDA on the host: what kernels and their callers need of CUDA, for a plain C++ compiler, so that the tests
// of the CUDA backend run where there is no device. Found by include path in place of NVIDIA's header.
// - Every thread of a block is a fiber; blocks run one after the other on the calling thread (block.h).
// - Work is queued by stream and runs when something waits for it, as late as CUDA allows (streams.h).
// - Mistakes that a device answers with a hang or with garbage are errors that say where: barriers that not
//   all threads reach, warp collectives whose lanes disagree, accesses outside an allocation or misaligned.
// The environment changes the pretended machine; see device.cc.
#pragma once

#include "kernel_language.h"
#include "runtime_api.h"
#include "warp.h"

namespace cuda_on_host {

/// kernel <<<grid, block, shared, stream>>>; `run` is one thread's call of the kernel. Errors are left for
/// cudaGetLastError.
void Launch(const void* kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
            std::function<void()> run);

/// The running block's dynamic shared memory: aligned to 128 bytes, full of NaN before each block.
void* DynamicShared();

}  // namespace cuda_on_host
