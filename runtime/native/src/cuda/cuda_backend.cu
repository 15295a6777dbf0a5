#include "cuda_backend.h"
#include "cuda_group.h"
#include "device_memory.h"
#include "download_buffer.h"
#include "matmul.h"
#include "pending_downloads.h"
#include "pinned_pieces.h"
#include "staging_ring.h"

namespace internvl::cuda {
namespace {

int Attribute(cudaDeviceAttr attribute, int device) {
  int value = 0;
  Check(cudaDeviceGetAttribute(&value, attribute, device), "cudaDeviceGetAttribute");
  return value;
}

}  // namespace

CudaBackend::Stream::Stream() {
  Check(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking), "cudaStreamCreate");
}

CudaBackend::Stream::~Stream() { cudaStreamDestroy(handle); }

std::unique_ptr<CudaBackend> CudaBackend::Make(int device) {
  return std::unique_ptr<CudaBackend>(new CudaBackend(device, std::make_unique<DeviceMemory>()));
}

CudaBackend::CudaBackend(int device, std::unique_ptr<MemorySource> memory)
    : Backend(*memory),
      device_memory_(std::move(memory)),
      device_(device),
      multiprocessors_(Attribute(cudaDevAttrMultiProcessorCount, device)),
      staging_(std::make_unique<StagingRing>(stream_)),
      downloads_(std::make_unique<DownloadBuffer>(stream_)),
      pending_downloads_(std::make_unique<PendingDownloads>(stream_)),
      matmul_(std::make_unique<Matmul>(stream_, *device_memory_)) {}

// Nothing that still runs may find its memory gone. Failures are not for a destructor: after a fault of the
// device there is nothing to wait for.
CudaBackend::~CudaBackend() {
  cudaStreamSynchronize(stream_);
  arena() = Arena(*device_memory_);  // gives its chunks back while their source lives
}

DeviceInfo CudaBackend::Info() {
  cudaDeviceProp properties;
  Check(cudaGetDeviceProperties(&properties, device_), "cudaGetDeviceProperties");
  size_t free = 0, total = 0;
  Check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return {.kind = "cuda",
          .name = properties.name,
          .capability = std::to_string(properties.major) + "." + std::to_string(properties.minor),
          .free_bytes = static_cast<int64_t>(free),
          .total_bytes = static_cast<int64_t>(total)};
}

void CudaBackend::Zero(void* data, size_t bytes) {
  if (bytes > 0) Check(cudaMemsetAsync(data, 0, bytes, stream_), "cudaMemset");
}

void CudaBackend::Upload(void* to, const void* host, size_t bytes) { staging_->Upload(to, host, bytes); }

void CudaBackend::UploadRows(void* to, int64_t step, const void* host, int64_t row_bytes, int64_t rows) {
  staging_->UploadRows(to, step, host, row_bytes, rows);
}

std::unique_ptr<UploadPieces> CudaBackend::MakeUploadPieces() {
  return std::make_unique<PinnedPieces>(stream_);
}

std::unique_ptr<DeviceGroup> CudaBackend::JoinGroup(Collective& host, std::string& left_out) {
  auto group = CudaGroup::Join(host, stream_, arena(), left_out);
  group_ = group.get();
  if (group) group->OnLeaving([this] { group_ = nullptr; });
  return group;
}

template <typename F>
void CudaBackend::Await(F&& wait) {
  if (group_ == nullptr) return wait();
  {
    const GroupWatch::Wait waiting = group_->Waiting();
    wait();
  }
  group_->CheckRanks("exchanging tensors");
}

void CudaBackend::Download(void* host, const void* from, size_t bytes) {
  Await([&] { downloads_->Download(host, from, bytes); });
}

class CudaBackend::AwaitedDownload final : public PendingDownload {
 public:
  AwaitedDownload(CudaBackend& backend, std::unique_ptr<PendingDownload> download)
      : backend_(backend), download_(std::move(download)) {}
  const void* Wait() override {
    const void* bytes = nullptr;
    backend_.Await([&] { bytes = download_->Wait(); });
    return bytes;
  }

 private:
  CudaBackend& backend_;
  const std::unique_ptr<PendingDownload> download_;
};

std::unique_ptr<PendingDownload> CudaBackend::StartDownload(const void* from, size_t bytes) {
  return std::make_unique<AwaitedDownload>(*this, pending_downloads_->Start(from, bytes));
}

void CudaBackend::Move(void* to, const void* from, size_t bytes) {
  if (bytes == 0 || to == from) return;
  const auto copy = [&](void* target, const void* source) {
    Check(cudaMemcpyAsync(target, source, bytes, cudaMemcpyDeviceToDevice, stream_), "cudaMemcpy");
  };
  const auto *first = static_cast<const std::byte*>(from), *target = static_cast<const std::byte*>(to);
  if (target < first + bytes && first < target + bytes) {
    // The device copies in no order: what overlaps takes a detour.
    Scratch scratch(arena());
    auto* detour = scratch.Get<std::byte>(static_cast<int64_t>(bytes));
    copy(detour, from);
    copy(to, detour);
  } else {
    copy(to, from);
  }
}

}  // namespace internvl::cuda
