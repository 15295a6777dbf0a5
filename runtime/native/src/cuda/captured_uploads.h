// The pinned memory behind the uploads that a graph has captured: its copies read it again at each replay.
#pragma once

#include <span>
#include <vector>

#include "pinned_memory.h"

namespace internvl::cuda {

/// Must live as long as the graph that was captured. What is written into an upload's bytes, while no replay
/// is under way, is what the next replay uploads: the same sequence of calls with other values need not be
/// captured again.
class CapturedUploads {
 public:
  /// In the order of the calls; a large upload is several.
  std::span<const std::span<std::byte>> uploads() const { return uploads_; }

  /// Memory for an upload of so many bytes. Throws DeviceError when a graph asks for more than is sensible.
  std::byte* Add(size_t bytes);

 private:
  static constexpr size_t kChunkBytes = size_t{1} << 20, kMostBytes = size_t{64} << 20;

  std::vector<PinnedMemory> chunks_;
  std::vector<std::span<std::byte>> uploads_;
  size_t used_of_last_ = 0, total_ = 0;
};

}  // namespace internvl::cuda
