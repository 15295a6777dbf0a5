// Uploads through a bounded ring of pinned memory: the caller's bytes are free as soon as a call returns, and
// the copies run beside what the host does next.
#pragma once

#include <array>
#include <optional>
#include <utility>

#include "captured_uploads.h"

namespace internvl::cuda {

/// Of one stream, used by one thread.
class StagingRing {
 public:
  explicit StagingRing(cudaStream_t stream);
  /// Waits for the copies.
  ~StagingRing();
  StagingRing(const StagingRing&) = delete;
  StagingRing& operator=(const StagingRing&) = delete;

  /// While the stream captures, the copies go into the graph and read memory of the CapturedUploads.
  void Upload(void* to, const void* host, size_t bytes);
  /// Rows that lie one every `step` bytes on the device.
  void UploadRows(void* to, int64_t step, const void* host, int64_t row_bytes, int64_t rows);

  /// What the uploads of the capture that has just ended read; for whoever keeps the graph.
  CapturedUploads TakeCaptured() { return std::exchange(captured_, {}); }

 private:
  // Several segments, so that one is filled while others are copied; an event for each, because one for every
  // small upload would cost as much as the copy.
  static constexpr size_t kSegments = 8, kSegmentBytes = size_t{2} << 20;

  /// Pinned memory that nothing reads any more, for at most `bytes` bytes, at least one `unit`; how many it
  /// is for.
  std::pair<std::byte*, size_t> Room(size_t bytes, size_t unit);
  bool Capturing() const;

  const cudaStream_t stream_;
  std::optional<PinnedMemory> memory_;  // at the first upload: not all threads make one
  std::array<cudaEvent_t, kSegments> copied_{};
  size_t segment_ = 0, used_ = 0;
  CapturedUploads captured_;
};

}  // namespace internvl::cuda
