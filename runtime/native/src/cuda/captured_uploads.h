// The pinned memory behind the uploads that a graph has captured: its copies read it again at each replay.
#pragma once

#include <vector>

#include "pinned_memory.h"

namespace internvl::cuda {

/// Must live as long as the graph that was captured.
class CapturedUploads {
 public:
  /// Memory for an upload of so many bytes. Throws DeviceError when a graph asks for more than is sensible.
  std::byte* Add(size_t bytes);

 private:
  static constexpr size_t kChunkBytes = size_t{1} << 20, kMostBytes = size_t{64} << 20;

  std::vector<PinnedMemory> chunks_;
  size_t used_of_last_ = 0, total_ = 0;
};

}  // namespace internvl::cuda
