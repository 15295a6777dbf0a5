// Memory that the ranks of one machine, a process each, open to each other.
#pragma once

#include <cuda_runtime.h>

#include <chrono>

#include "launch.h"
#include "peer_views.h"

namespace internvl::cuda {

/// This rank's memory and its views of the others'. A rank that leaves unmaps them; what others have opened
/// of its own stays theirs until they leave too.
class PeerMemory {
 public:
  /// On the calling thread's device. `words` is in pinned memory and outlives this. Throws DeviceError.
  PeerMemory(int rank, int world, LossWords* words, std::chrono::nanoseconds patience);
  ~PeerMemory();
  PeerMemory(const PeerMemory&) = delete;
  PeerMemory& operator=(const PeerMemory&) = delete;

  /// What the others open.
  cudaIpcMemHandle_t handle() const;
  /// Throws DeviceError where it cannot be: the devices have no way to each other, or their processes do not
  /// share what the driver hands memory over with.
  void Open(int peer, const cudaIpcMemHandle_t& handle);
  const PeerViews& views() const { return views_; }

 private:
  PeerViews views_{};
};

}  // namespace internvl::cuda
