// The operations on one CUDA device, all on one stream. Each operation is in the file named after it.
#pragma once

#include <memory>

#include "../backend.h"
#include "launch.h"

namespace internvl::cuda {

class CudaGroup;
class DownloadBuffer;
class Matmul;
class PendingDownloads;
class StagingRing;

class CudaBackend final : public Backend {
 public:
  /// On the calling thread's current device; see OpenCuda. Throws DeviceError.
  static std::unique_ptr<CudaBackend> Make(int device);
  ~CudaBackend() override;

  cudaStream_t stream() const { return stream_; }

  DeviceInfo Info() override;
  void Zero(void* data, size_t bytes) override;
  void Upload(void* to, const void* host, size_t bytes) override;
  void Download(void* host, const void* from, size_t bytes) override;
  std::unique_ptr<PendingDownload> StartDownload(const void* from, size_t bytes) override;
  void Move(void* to, const void* from, size_t bytes) override;
  void UploadRows(void* to, int64_t step, const void* host, int64_t row_bytes, int64_t rows) override;

  std::unique_ptr<UploadPieces> MakeUploadPieces() override;

  int64_t Tune(bool on) override;
  std::vector<int64_t> RowRanges(int64_t most) const override;
  bool can_record() const override { return true; }
  void BeginRecording() override;
  std::unique_ptr<RecordedWork> EndRecording() override;

  std::unique_ptr<DeviceGroup> JoinGroup(Collective& host, std::string& left_out) override;

  void FillRandom(const Tensor& x, uint64_t seed, float mean, float spread) override;
  void Linear(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out) override;
  void Convert(const Tensor& x, const Tensor* bias, const Tensor& out) override;
  void Embedding(const Tensor& table, const Tensor& ids, int64_t vocab_start, const Tensor& out) override;
  void RmsNorm(const Tensor& x, const Tensor& weight, float eps, const Tensor& out) override;
  void LayerNorm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps,
                 const Tensor& out) override;
  void QkSumSquares(const Tensor& qkv, const Tensor& out) override;
  void QkNorm(const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight, const Tensor& sums,
              float norm_width, float eps) override;
  void Gelu(const Tensor& x) override;
  void SiluMul(const Tensor& gate_up, const Tensor& out) override;
  void AddScaled(const Tensor& x, const Tensor& y, const Tensor* scale) override;
  void AddRmsNorm(const Tensor& x, const Tensor& y, const Tensor* scale, const Tensor& weight, float eps,
                  const Tensor& out) override;
  void GatherRows(const Tensor& x, const Tensor& rows, const Tensor& out) override;
  void ResolveIds(const Tensor& ids, const Tensor& last) override;
  void ChooseTokens(const Tensor& logits, int64_t columns, const Indices& draws, const Tensor& ids) override;

  void Patchify(std::span<const uint8_t> pixels, int64_t size, int64_t patch,
                const float (&normalised)[3][256], const Tensor& out) override;
  void VisionEmbed(const Tensor& patches, const Tensor& class_embedding, const Tensor& position,
                   const Tensor& out) override;
  void VisionAttention(const Tensor& qkv, int64_t length, int64_t heads, int64_t dim, float scale,
                       const Tensor& out) override;
  void PixelShuffle(const Tensor& x, int64_t side, int version, const Tensor& out) override;

  void RopeAndStoreKv(const Tensor& qkv, const Tensor& positions, const Tensor& slots, const Tensor& cos_sin,
                      const PagedCache& cache, const HeadShape& heads) override;
  void PagedAttention(const Tensor& qkv, const PagedCache& cache, const PagedSequences& sequences,
                      const HeadShape& heads, float scale, const Tensor& out) override;

 private:
  CudaBackend(int device, std::unique_ptr<MemorySource> memory);

  /// Runs what waits for the device, and so for the other ranks of a group.
  template <typename F>
  void Await(F&& wait);
  class AwaitedDownload;

  // Before what uses it and gone after it.
  struct Stream {
    Stream();
    ~Stream();
    cudaStream_t handle = nullptr;
  };

  const std::unique_ptr<MemorySource> device_memory_;
  const int device_;
  const Stream owned_stream_;
  const cudaStream_t stream_ = owned_stream_.handle;
  const int multiprocessors_;
  std::unique_ptr<StagingRing> staging_;
  std::unique_ptr<DownloadBuffer> downloads_;
  std::unique_ptr<PendingDownloads> pending_downloads_;
  std::unique_ptr<Matmul> matmul_;
  CudaGroup* group_ = nullptr;  // while there is one
};

}  // namespace internvl::cuda
