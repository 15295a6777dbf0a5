#include <algorithm>

#include "captured_uploads.h"

namespace internvl::cuda {

std::byte* CapturedUploads::Add(size_t bytes) {
  constexpr size_t kAlign = 16;
  if (bytes > kMostBytes - total_) throw DeviceError("a captured graph uploads more than 64 MiB");
  if (chunks_.empty() || bytes > chunks_.back().bytes() - used_of_last_) {
    chunks_.emplace_back(std::max(bytes, kChunkBytes));
    used_of_last_ = 0;
  }
  std::byte* data = chunks_.back().data() + used_of_last_;
  used_of_last_ = std::min(chunks_.back().bytes(), used_of_last_ + (bytes + kAlign - 1) / kAlign * kAlign);
  total_ += bytes;
  return data;
}

}  // namespace internvl::cuda
