// The operations on the CPU. Each is in the file named after it.
#pragma once

#include <vector>

#include "../backend.h"
#include "matmul.h"

namespace internvl {

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(MemorySource& memory) : Backend(memory) {}

  DeviceInfo Info() override;
  bool on_host() const override { return true; }
  void Zero(void* data, size_t bytes) override;
  void Upload(void* to, const void* host, size_t bytes) override;
  void Download(void* host, const void* from, size_t bytes) override;
  void Move(void* to, const void* from, size_t bytes) override;

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
  Matmul matmul_;
  std::vector<Arena> draw_memory_;  // of each thread that draws tokens
};

}  // namespace internvl
