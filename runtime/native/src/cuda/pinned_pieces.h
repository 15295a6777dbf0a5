// What is read from files, on its way to a device: pinned memory that it is read straight into.
#pragma once

#include <array>
#include <optional>

#include "../backend.h"
#include "pinned_memory.h"

namespace internvl::cuda {

/// Of one stream, used by one thread; not while the stream captures.
class PinnedPieces final : public UploadPieces {
 public:
  explicit PinnedPieces(cudaStream_t stream);
  ~PinnedPieces() override;
  PinnedPieces(const PinnedPieces&) = delete;
  PinnedPieces& operator=(const PinnedPieces&) = delete;

  std::byte* Next(size_t bytes) override;
  void Upload(void* to, int64_t to_step, const void* from, int64_t from_step, int64_t row_bytes,
              int64_t rows) override;

 private:
  // One is read into while another one is copied; the rest makes up for either being late.
  static constexpr size_t kPieces = 4;

  struct Piece {
    std::optional<PinnedMemory> memory;  // from its first use on: a small model needs none of the others
    cudaEvent_t copied = nullptr;
  };

  const cudaStream_t stream_;
  std::array<Piece, kPieces> pieces_;
  size_t current_ = 0;
};

}  // namespace internvl::cuda
