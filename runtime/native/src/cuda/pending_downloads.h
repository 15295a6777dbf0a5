// Downloads that the host comes back for: into pinned memory of their own, with an event behind each.
#pragma once

#include <memory>
#include <vector>

#include "pinned_memory.h"

namespace internvl::cuda {

/// Of one stream, used by one thread. Must outlive what it starts.
class PendingDownloads {
 public:
  explicit PendingDownloads(cudaStream_t stream) : stream_(stream) {}
  ~PendingDownloads();

  std::unique_ptr<PendingDownload> Start(const void* from, size_t bytes);

 private:
  /// As many as were ever under way at once; each keeps its memory.
  struct Slot {
    PinnedMemory memory;
    cudaEvent_t event;
  };
  class Pending;

  const cudaStream_t stream_;
  std::vector<std::unique_ptr<Slot>> idle_;
};

}  // namespace internvl::cuda
