// Downloads through pinned memory: the device writes it itself, and nothing has to be pinned for a call.
#pragma once

#include <optional>

#include "pinned_memory.h"

namespace internvl::cuda {

/// Of one stream, used by one thread.
class DownloadBuffer {
 public:
  explicit DownloadBuffer(cudaStream_t stream) : stream_(stream) {}

  /// Waits for everything before it on the stream.
  void Download(void* host, const void* from, size_t bytes);

 private:
  static constexpr size_t kBytes = size_t{1} << 20;  // four rows of logits

  const cudaStream_t stream_;
  std::optional<PinnedMemory> memory_;  // at the first download
};

}  // namespace internvl::cuda
