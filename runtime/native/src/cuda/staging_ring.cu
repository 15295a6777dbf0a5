#include <algorithm>
#include <cstring>
#include <tuple>

#include "staging_ring.h"

namespace internvl::cuda {

StagingRing::StagingRing(cudaStream_t stream) : stream_(stream) {
  try {
    for (cudaEvent_t& event : copied_)
      Check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
  } catch (...) {
    for (const cudaEvent_t event : copied_)
      if (event != nullptr) cudaEventDestroy(event);
    throw;
  }
}

StagingRing::~StagingRing() {
  cudaStreamSynchronize(stream_);
  for (const cudaEvent_t event : copied_) cudaEventDestroy(event);
}

bool StagingRing::Capturing() const {
  cudaStreamCaptureStatus status;
  Check(cudaStreamIsCapturing(stream_, &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

std::pair<std::byte*, size_t> StagingRing::Room(size_t bytes, size_t unit) {
  // Pieces start at multiples of 16 bytes, as a copy engine likes them.
  used_ = std::min(kSegmentBytes, (used_ + 15) / 16 * 16);
  // A rest that would cut the bytes up is left when they fit into a segment.
  const size_t wanted = std::max(unit, std::min(bytes, kSegmentBytes / 4));
  if (!memory_) memory_.emplace(kSegments * kSegmentBytes);
  if (kSegmentBytes - used_ < wanted) {
    Check(cudaEventRecord(copied_[segment_], stream_), "cudaEventRecord");
    segment_ = (segment_ + 1) % kSegments;
    used_ = 0;
    Check(cudaEventSynchronize(copied_[segment_]), "upload");
  }
  const size_t taken = std::min(bytes, (kSegmentBytes - used_) / unit * unit);
  std::byte* start = memory_->data() + segment_ * kSegmentBytes + used_;
  used_ += taken;
  return {start, taken};
}

void StagingRing::Upload(void* to, const void* host, size_t bytes) {
  auto* target = static_cast<std::byte*>(to);
  const auto* source = static_cast<const std::byte*>(host);
  const bool capturing = Capturing();
  while (bytes > 0) {
    size_t piece = bytes;
    std::byte* staged = nullptr;
    if (capturing) {
      staged = captured_.Add(bytes);
    } else {
      std::tie(staged, piece) = Room(bytes, 1);
    }
    std::memcpy(staged, source, piece);
    Check(cudaMemcpyAsync(target, staged, piece, cudaMemcpyHostToDevice, stream_), "upload");
    target += piece;
    source += piece;
    bytes -= piece;
  }
}

void StagingRing::UploadRows(void* to, int64_t step, const void* host, int64_t row_bytes, int64_t rows) {
  const auto row = static_cast<size_t>(row_bytes), apart = static_cast<size_t>(step);
  auto* target = static_cast<std::byte*>(to);
  const auto* source = static_cast<const std::byte*>(host);
  auto left = static_cast<size_t>(rows);
  if (row == apart) return Upload(to, host, row * left);
  if (row > kSegmentBytes || Capturing()) {
    for (; left > 0; --left, target += apart, source += row) Upload(target, source, row);
    return;
  }
  while (left > 0 && row > 0) {
    const auto [staged, bytes] = Room(left * row, row);
    const size_t some = bytes / row;
    std::memcpy(staged, source, bytes);
    Check(cudaMemcpy2DAsync(target, apart, staged, row, row, some, cudaMemcpyHostToDevice, stream_),
          "upload of rows");
    target += some * apart;
    source += bytes;
    left -= some;
  }
}

}  // namespace internvl::cuda
