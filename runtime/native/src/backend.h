// What computes: the CPU or a CUDA device. An environment has one. The operations that JavaScript calls check
// their arguments and make their results; a backend computes and trusts what it is given.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "memory.h"
#include "tensor.h"

namespace internvl {

/// Heads of queries, and of keys and values that they share in groups.
struct HeadShape {
  int64_t heads = 0, kv_heads = 0, dim = 0;
  int64_t kv_width() const { return kv_heads * dim; }
  int64_t qkv_width() const { return (heads + 2 * kv_heads) * dim; }
};

/// The paged cache of one layer: k and v are [slots, kv_heads * dim] in the type of queries, or float8
/// [kv_heads * slots, dim], a head's slots together: see float8_rows.h for the scales of its rows.
struct PagedCache {
  Tensor k, v;
  int64_t slots = 0;  // blocks * block_size
  int64_t block_size = 0;

  bool float8() const { return k.dtype == DType::kFloat8; }
};

/// int32 values that came from JavaScript: where the backend has them, and what they are.
struct Indices {
  Tensor tensor;  // int32 [1, n]
  std::span<const int32_t> values;

  int64_t size() const { return static_cast<int64_t>(values.size()); }
  int32_t operator[](int64_t i) const { return values[static_cast<size_t>(i)]; }
};

/// S sequences, each with some rows of queries at the end of what it has in the cache.
struct PagedSequences {
  Indices query_start;      // [S + 1]
  Indices context_lengths;  // [S]
  Indices block_tables;     // [S * max_blocks]
  int64_t max_blocks = 0;
  int64_t count() const { return context_lengths.size(); }
  int64_t queries(int64_t s) const { return query_start[s + 1] - query_start[s]; }
};

/// What the caller may want to know of a device.
struct DeviceInfo {
  std::string kind;        // "cpu" or "cuda"
  std::string name;        // as its maker says it
  std::string capability;  // CUDA's compute capability: "9.0"; the CPU's instruction set: "avx2"
  int64_t free_bytes = 0, total_bytes = 0;
};

/// The device refused or failed.
class DeviceError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Work that was recorded once and is launched as a whole: it reads and writes the memory that the recorded
/// calls were given.
class RecordedWork {
 public:
  virtual ~RecordedWork() = default;
  virtual void Launch() = 0;
};

/// Bytes on their way from a device to the host, as they were when the copy was asked for.
class PendingDownload {
 public:
  virtual ~PendingDownload() = default;
  /// Waits for them. Valid as long as this lives.
  virtual const void* Wait() = 0;
};

/// Host memory that a device copies from by itself: pieces that are filled in turn, one while others are on
/// their way.
class UploadPieces {
 public:
  static constexpr size_t kBytes = size_t{16} << 20;

  /// Waits for the copies.
  virtual ~UploadPieces() = default;
  /// The next piece, of kBytes or `bytes` if that is more; waits until nothing reads what it held.
  virtual std::byte* Next(size_t bytes) = 0;
  /// Rows of the piece that Next gave last, of which it has one every `from_step` bytes and the device one
  /// every `to_step`. Returns at once; the piece must not change until Next gives it again.
  virtual void Upload(void* to, int64_t to_step, const void* from, int64_t from_step, int64_t row_bytes,
                      int64_t rows) = 0;
};

/// The ranks' exchanges of tensors without a way through the host. Every rank calls the same ones in the same
/// order; like a backend's, they may return before the work is done, and are part of what is recorded where
/// can_record() says so. Throws CollectiveFailure, as the backend's Download does once a peer is lost.
class DeviceGroup {
 public:
  virtual ~DeviceGroup() = default;
  /// x summed over the ranks, in place: float32 or bfloat16, summed in float32 and rounded once, the same
  /// bits on every rank.
  virtual void AllReduce(const Tensor& x) = 0;
  /// x float32 [rows, cols] of each rank -> out [rows, world size * cols], rank 0's columns first.
  virtual void AllGatherColumns(const Tensor& x, const Tensor& out) = 0;
  /// Which ways were taken, for reports: the same on every rank.
  virtual std::string path() const = 0;
  virtual bool can_record() const = 0;
};

class Collective;

/// Calls of one backend come from one thread, in order, and may return before the work is done: work is done
/// in the order of the calls, and Download waits for it. Tensors hold float32 or bfloat16 unless said
/// otherwise; results have been made by the caller and do not overlap operands. What is rounded where is said
/// in the contract in index.ts. Throws std::bad_alloc and DeviceError.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual DeviceInfo Info() = 0;

  // --- memory
  /// Where results and working memory come from.
  Arena& arena() { return arena_; }
  MemorySource& memory() { return memory_; }
  virtual void Zero(void* data, size_t bytes) = 0;
  /// The bytes may change as soon as this returns.
  virtual void Upload(void* to, const void* host, size_t bytes) = 0;
  /// Waits until everything before it is done.
  virtual void Download(void* host, const void* from, size_t bytes) = 0;
  /// Returns at once.
  virtual std::unique_ptr<PendingDownload> StartDownload(const void* from, size_t bytes);
  /// Within the device; the ranges may overlap.
  virtual void Move(void* to, const void* from, size_t bytes) = 0;
  /// Rows of which the device has one every `step` bytes; the host has them one after the other.
  virtual void UploadRows(void* to, int64_t step, const void* host, int64_t row_bytes, int64_t rows);
  /// Null where tensors lie in memory of the host.
  virtual std::unique_ptr<UploadPieces> MakeUploadPieces() { return nullptr; }
  /// Tensors lie in memory that the host can read and write, and a call that returned is done.
  virtual bool on_host() const { return false; }

  /// While on, the device tries out how to compute each new shape, which takes time; for warming up. How many
  /// it has tried.
  virtual int64_t Tune(bool) { return 0; }
  /// Numbers of rows that it computes alike: the largest of each range up to `most`, ascending.
  virtual std::vector<int64_t> RowRanges(int64_t) const { return {}; }

  // --- recording: between the two, calls are written down instead of done; Download must not be called
  virtual bool can_record() const { return false; }
  virtual void BeginRecording() {}
  virtual std::unique_ptr<RecordedWork> EndRecording() { return nullptr; }

  // --- collectives
  /// Null where tensors go by way of the host. Every rank of `host`, which is connected and outlives the
  /// group, calls it at the same time, and all take the same ways; `left_out` says which were not taken, and
  /// why. The backend outlives the group. Throws CollectiveFailure.
  virtual std::unique_ptr<DeviceGroup> JoinGroup(Collective& host, std::string& left_out);

  // --- operations: see index.ts
  /// Element i becomes mean + spread * SeededUniform(seed, i), rounded; int8 and float8: see SeededWeight.
  /// Not int32, uint8.
  virtual void FillRandom(const Tensor& x, uint64_t seed, float mean, float spread) = 0;
  /// out [T, N] = x [T, K] * weight [N, K]^T + bias [N] (null: none); weight also int8 or float8.
  virtual void Linear(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out) = 0;
  virtual void Convert(const Tensor& x, const Tensor* bias, const Tensor& out) = 0;
  /// ids int32 [1, T]; ids outside [vocab_start, vocab_start + V) give zero rows.
  virtual void Embedding(const Tensor& table, const Tensor& ids, int64_t vocab_start, const Tensor& out) = 0;
  virtual void RmsNorm(const Tensor& x, const Tensor& weight, float eps, const Tensor& out) = 0;
  virtual void LayerNorm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps,
                         const Tensor& out) = 0;
  /// qkv [T, 3W] -> float32 [T, 2]
  virtual void QkSumSquares(const Tensor& qkv, const Tensor& out) = 0;
  virtual void QkNorm(const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight, const Tensor& sums,
                      float norm_width, float eps) = 0;
  virtual void Gelu(const Tensor& x) = 0;
  virtual void SiluMul(const Tensor& gate_up, const Tensor& out) = 0;
  virtual void AddScaled(const Tensor& x, const Tensor& y, const Tensor* scale) = 0;
  /// AddScaled, then RmsNorm of x to out: the same bits, with less memory read.
  virtual void AddRmsNorm(const Tensor& x, const Tensor& y, const Tensor* scale, const Tensor& weight,
                          float eps, const Tensor& out) = 0;
  /// rows int32 [1, n]; any dtype.
  virtual void GatherRows(const Tensor& x, const Tensor& rows, const Tensor& out) = 0;
  /// ids int32 [1, T], in place: -1 - i becomes element i of last int32 [n, 1]; others stay.
  virtual void ResolveIds(const Tensor& ids, const Tensor& last) = 0;
  /// logits float32 [L, >= columns], draws a TokenDraw for each row -> ids int32 [L, 1]
  virtual void ChooseTokens(const Tensor& logits, int64_t columns, const Indices& draws,
                            const Tensor& ids) = 0;

  // --- vision
  /// pixels uint8 [size, size, 3] in host memory; normalised: what each of the 256 values of each channel
  /// stands for.
  virtual void Patchify(std::span<const uint8_t> pixels, int64_t size, int64_t patch,
                        const float (&normalised)[3][256], const Tensor& out) = 0;
  virtual void VisionEmbed(const Tensor& patches, const Tensor& class_embedding, const Tensor& position,
                           const Tensor& out) = 0;
  /// qkv [N, 3 * heads * dim], N a multiple of length -> [N, heads * dim]
  virtual void VisionAttention(const Tensor& qkv, int64_t length, int64_t heads, int64_t dim, float scale,
                               const Tensor& out) = 0;
  virtual void PixelShuffle(const Tensor& x, int64_t side, int version, const Tensor& out) = 0;

  // --- language
  /// positions and slots int32 [1, T]
  virtual void RopeAndStoreKv(const Tensor& qkv, const Tensor& positions, const Tensor& slots,
                              const Tensor& cos_sin, const PagedCache& cache, const HeadShape& heads) = 0;
  virtual void PagedAttention(const Tensor& qkv, const PagedCache& cache, const PagedSequences& sequences,
                              const HeadShape& heads, float scale, const Tensor& out) = 0;

 protected:
  explicit Backend(MemorySource& memory) : memory_(memory), arena_(memory) {}

 private:
  MemorySource& memory_;
  Arena arena_;
};

}  // namespace internvl
