#include <algorithm>
#include <cstring>

#include "download_buffer.h"

namespace internvl::cuda {

void DownloadBuffer::Download(void* host, const void* from, size_t bytes) {
  if (!memory_) memory_.emplace(kBytes);
  auto* target = static_cast<std::byte*>(host);
  const auto* source = static_cast<const std::byte*>(from);
  // At least once: nothing at all waits too.
  do {
    const size_t piece = std::min(bytes, kBytes);
    if (piece > 0) {
      Check(cudaMemcpyAsync(memory_->data(), source, piece, cudaMemcpyDeviceToHost, stream_), "download");
    }
    Check(cudaStreamSynchronize(stream_), "download");
    if (piece > 0) std::memcpy(target, memory_->data(), piece);
    target += piece;
    source += piece;
    bytes -= piece;
  } while (bytes > 0);
}

}  // namespace internvl::cuda
