#include "download_buffer.h"

#include <algorithm>
#include <cstring>

namespace internvl::cuda {

void DownloadBuffer::Download(void* host, const void* from, int64_t step, int64_t row_bytes, int64_t rows) {
  const auto row = static_cast<size_t>(row_bytes), apart = static_cast<size_t>(step);
  auto* target = static_cast<std::byte*>(host);
  const auto* source = static_cast<const std::byte*>(from);
  if (row == 0 || rows == 0) return Check(cudaStreamSynchronize(stream_), "download");
  if (!memory_) memory_.emplace(kBytes);
  const auto fetch = [&](const std::byte* at, size_t bytes, size_t count) {
    Check(cudaMemcpy2DAsync(memory_->data(), bytes, at, count > 1 ? apart : bytes, bytes, count,
                            cudaMemcpyDeviceToHost, stream_),
          "download");
    Check(cudaStreamSynchronize(stream_), "download");
    std::memcpy(target, memory_->data(), bytes * count);
    target += bytes * count;
  };
  if (row > kBytes) {
    for (int64_t r = 0; r < rows; ++r) {
      for (size_t at = 0; at < row; at += kBytes)
        fetch(source + static_cast<size_t>(r) * apart + at, std::min(kBytes, row - at), 1);
    }
    return;
  }
  const size_t at_once = kBytes / row;
  for (size_t r = 0; r < static_cast<size_t>(rows); r += at_once)
    fetch(source + r * apart, row, std::min(at_once, static_cast<size_t>(rows) - r));
}

}  // namespace internvl::cuda
