// Streams queue their work and run it only when something waits for it, so that host memory that changes too
// early, and events that nobody waits for, show. One stream runs as far as it must, others stay behind. While
// a stream captures, its work goes to the graph instead.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "runtime_api.h"

namespace cuda_on_host {

using Work = std::function<void()>;

class Queue {
 public:
  /// Bounded: the oldest run when too many wait.
  void Push(Work work);
  /// Runs until `position` (a value of pushed()) is reached.
  void RunUntil(uint64_t position);
  uint64_t pushed() const { return pushed_; }
  uint64_t ran() const { return pushed_ - waiting_.size(); }

 private:
  std::deque<Work> waiting_;
  uint64_t pushed_ = 0;
};

/// Runs everything that this thread's streams have; what another thread queued is that thread's to wait for.
void RunEverything();

/// Queues or captures; on the default stream, runs everything before it and then it.
cudaError_t Enqueue(cudaStream_t stream, Work work);

/// While this thread captures and has not relaxed its mode: an error, and the capture is invalid.
cudaError_t RefuseInCapture();

bool IsCapturing(cudaStream_t stream);

}  // namespace cuda_on_host

struct CUgraph_st {
  std::vector<cuda_on_host::Work> work;
};

struct CUstream_st {
  std::shared_ptr<cuda_on_host::Queue> queue = std::make_shared<cuda_on_host::Queue>();
  std::unique_ptr<CUgraph_st> captured;  // null: not capturing
  bool invalidated = false;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
};

struct CUevent_st {
  std::shared_ptr<cuda_on_host::Queue> queue;  // null: never recorded
  uint64_t position = 0;
};
