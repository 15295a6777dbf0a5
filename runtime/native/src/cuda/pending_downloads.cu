#include <algorithm>

#include "pending_downloads.h"

namespace internvl::cuda {
namespace {

/// Of the tokens of a step: most sizes need no new memory.
constexpr size_t kLeastBytes = size_t{16} << 10;

}  // namespace

class PendingDownloads::Pending final : public PendingDownload {
 public:
  Pending(PendingDownloads& owner, std::unique_ptr<Slot> slot) : owner_(owner), slot_(std::move(slot)) {}

  // Nobody waited: the copy may still run, and the slot's memory is written by the next one in the stream's
  // order only.
  ~Pending() override { owner_.idle_.push_back(std::move(slot_)); }

  void Begin(const void* from, size_t bytes, cudaStream_t stream) {
    if (bytes > 0) {
      Check(cudaMemcpyAsync(slot_->memory.data(), from, bytes, cudaMemcpyDeviceToHost, stream), "download");
    }
    Check(cudaEventRecord(slot_->event, stream), "download");
  }

  const void* Wait() override {
    Check(cudaEventSynchronize(slot_->event), "download");
    return slot_->memory.data();
  }

 private:
  PendingDownloads& owner_;
  std::unique_ptr<Slot> slot_;
};

PendingDownloads::~PendingDownloads() {
  for (const auto& slot : idle_) cudaEventDestroy(slot->event);
}

std::unique_ptr<PendingDownload> PendingDownloads::Start(const void* from, size_t bytes) {
  const auto fits = [bytes](const auto& slot) { return slot->memory.bytes() >= bytes; };
  auto found = std::find_if(idle_.begin(), idle_.end(), fits);
  std::unique_ptr<Slot> slot;
  if (found != idle_.end()) {
    slot = std::move(*found);
    idle_.erase(found);
  } else {
    slot = std::make_unique<Slot>(Slot{PinnedMemory(std::max(bytes, kLeastBytes)), nullptr});
    Check(cudaEventCreateWithFlags(&slot->event, cudaEventDisableTiming), "cudaEventCreate");
  }
  // Owned from here on: what throws gives the slot back.
  auto pending = std::make_unique<Pending>(*this, std::move(slot));
  pending->Begin(from, bytes, stream_);
  return pending;
}

}  // namespace internvl::cuda
