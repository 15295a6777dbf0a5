// Downloads through pinned memory: the device writes it itself, and nothing has to be pinned for a call.
#pragma once

#include <optional>

#include "pinned_memory.h"

namespace internvl::cuda {

/// Of one stream, used by one thread.
class DownloadBuffer {
 public:
  explicit DownloadBuffer(cudaStream_t stream) : stream_(stream) {}

  /// Rows that lie one every `step` bytes on the device. Waits for everything before it on the stream.
  void Download(void* host, const void* from, int64_t step, int64_t row_bytes, int64_t rows);

 private:
  static constexpr size_t kBytes = size_t{1} << 20;

  const cudaStream_t stream_;
  std::optional<PinnedMemory> memory_;  // at the first download
};

}  // namespace internvl::cuda
