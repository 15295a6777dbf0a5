#include <algorithm>

#include "pinned_pieces.h"

namespace internvl::cuda {

PinnedPieces::PinnedPieces(cudaStream_t stream) : stream_(stream) {
  try {
    for (Piece& piece : pieces_)
      Check(cudaEventCreateWithFlags(&piece.copied, cudaEventDisableTiming), "cudaEventCreate");
  } catch (...) {
    for (const Piece& piece : pieces_)
      if (piece.copied != nullptr) cudaEventDestroy(piece.copied);
    throw;
  }
}

PinnedPieces::~PinnedPieces() {
  cudaStreamSynchronize(stream_);
  for (const Piece& piece : pieces_) cudaEventDestroy(piece.copied);
}

std::byte* PinnedPieces::Next(size_t bytes) {
  current_ = (current_ + 1) % kPieces;
  Piece& piece = pieces_[current_];
  Check(cudaEventSynchronize(piece.copied), "upload");
  if (!piece.memory || piece.memory->bytes() < bytes) {
    piece.memory.reset();
    piece.memory.emplace(std::max(bytes, kBytes));
  }
  return piece.memory->data();
}

void PinnedPieces::Upload(void* to, int64_t to_step, const void* from, int64_t from_step, int64_t row_bytes,
                          int64_t rows) {
  const auto row = static_cast<size_t>(row_bytes), count = static_cast<size_t>(rows);
  const cudaError_t copied =
      rows == 1 || (to_step == row_bytes && from_step == row_bytes)
          ? cudaMemcpyAsync(to, from, row * count, cudaMemcpyHostToDevice, stream_)
          : cudaMemcpy2DAsync(to, static_cast<size_t>(to_step), from, static_cast<size_t>(from_step), row,
                              count, cudaMemcpyHostToDevice, stream_);
  Check(copied, "upload");
  Check(cudaEventRecord(pieces_[current_].copied, stream_), "cudaEventRecord");
}

}  // namespace internvl::cuda
