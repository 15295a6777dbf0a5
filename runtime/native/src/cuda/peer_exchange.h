// Collectives by kernels that write into each other's memory: for ranks on one machine, also for two on one
// device, where NCCL does not go.
//
// Two processes that share a device without MPS take turns on it: a kernel that waits has the device until
// its turn ends, so an exchange takes some turns, milliseconds, and comes out right. Patience counts time
// that passes, not the process's own.
#pragma once

#include <algorithm>

#include "launch.h"
#include "peer_memory.h"

namespace internvl::cuda {

/// On one stream: an exchange must have ended before the next one begins. May be captured.
class PeerExchange {
 public:
  PeerExchange(const PeerMemory& memory, cudaStream_t stream) : memory_(memory), stream_(stream) {}

  void AllReduce(const Tensor& x);
  void AllGatherColumns(const Tensor& x, const Tensor& out);

 private:
  const PeerMemory& memory_;
  const cudaStream_t stream_;
};

/// The same on every rank for the same work. A grid that waits has to fit on the device: see kMostBlocks.
inline dim3 PeerGrid(int items, int threads) {
  return dim3(static_cast<unsigned>(std::clamp((items + threads - 1) / threads, 1, kMostBlocks)));
}

}  // namespace internvl::cuda
