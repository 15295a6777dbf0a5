// What a warp does of its block's split of a context at once: a step of some keys and values, copied into
// shared memory while the steps before it are computed.
#pragma once

#include "async_copy.h"
#include "float8_attention.h"
#include "paged_sequences.h"
#include "warp_attention.h"

namespace internvl::cuda {

constexpr int kDecodeWarps = 4, kDecodeThreads = kDecodeWarps * 32;
constexpr int kDecodeStages = 3;  // steps of a warp in shared memory
constexpr int kDecodeRows = 16;   // of a block: heads that share a key head, the rest is empty

/// Keys of a step: as many bytes in either type, since it is bytes under way that keep the memory busy.
template <typename Cached>
constexpr int kStepKeys = 32 / static_cast<int>(sizeof(Cached));
/// A split has a multiple of it.
template <typename Cached>
constexpr int kSplitKeys = kDecodeWarps * kStepKeys<Cached>;

/// Keys of each split; those at the end of `splits` may get none.
template <typename Cached>
__host__ __device__ constexpr int KeysOfSplit(int context, int splits) {
  constexpr int kMultiple = kSplitKeys<Cached>;
  return ((context + splits - 1) / splits + kMultiple - 1) / kMultiple * kMultiple;
}

/// A step in shared memory: keys, values, and of float8 their scales.
template <int kDim, typename Cached>
struct DecodeStep;

template <int kDim>
struct DecodeStep<kDim, BFloat16> {
  static constexpr int kKeys = kStepKeys<BFloat16>;
  using Tile = SharedTile<kDim>;
  using Attention = WarpAttention<kDim, 1, kKeys>;
  static constexpr int kBytes = Tile::Bytes(2 * kKeys);

  __device__ static void Score(Attention& attention, const unsigned char* q, const unsigned char* step) {
    attention.template Score<true>(q, step, kKeys);
  }
  __device__ static void Accumulate(Attention& attention, const unsigned char* step) {
    attention.template Accumulate<true>(step + Tile::Bytes(kKeys), kKeys);
  }
};

template <int kDim>
struct DecodeStep<kDim, Float8> {
  static constexpr int kKeys = kStepKeys<Float8>;
  using Tile = Float8Tile<kDim>;
  using Attention = Float8WarpAttention<kDim, kKeys>;
  static constexpr int kScales = Tile::Bytes(2 * kKeys);
  static constexpr int kBytes = kScales + 2 * kKeys * static_cast<int>(sizeof(float));

  __device__ static void Score(Attention& attention, const unsigned char* q, const unsigned char* step) {
    attention.Score(q, step, reinterpret_cast<const float*>(step + kScales));
  }
  __device__ static void Accumulate(Attention& attention, const unsigned char* step) {
    attention.Accumulate(step + Tile::Bytes(kKeys), reinterpret_cast<const float*>(step + kScales) + kKeys);
  }
};

/// Shared memory: the queries, then for each warp kDecodeStages steps, of which the first part holds its
/// result in the end.
template <int kDim, typename Cached>
struct DecodeShared {
  static constexpr int kWarpBytes = kDecodeStages * DecodeStep<kDim, Cached>::kBytes;
  static constexpr int kQueryBytes = SharedTile<kDim>::Bytes(kDecodeRows);
  static constexpr int kBytes = kQueryBytes + kDecodeWarps * kWarpBytes;

  /// 8 more than a row has, so that stores of a fragment's 8 rows reach all banks.
  static constexpr int kResultStride = kDim + 8;
  float* output;   // [kDecodeRows][kResultStride], not divided by the sums
  float* maximum;  // [kDecodeRows], of scaled scores
  float* sum;      // [kDecodeRows]
  __device__ DecodeShared(unsigned char* shared, int warp)
      : output(reinterpret_cast<float*>(shared + kQueryBytes + warp * kWarpBytes)),
        maximum(output + kDecodeRows * kResultStride),
        sum(maximum + kDecodeRows) {}
  static_assert((kDecodeRows * kResultStride + 2 * kDecodeRows) * static_cast<int>(sizeof(float)) <=
                kWarpBytes);
};

/// Puts the block's queries, `rows` of kDecodeRows and zeros after them, where Score looks for them: its
/// threads' copies of their first group, or stores.
template <int kDim, typename Cached>
__device__ void StartQueries(const BFloat16* q, int rows, unsigned char* shared) {
  using Tile = SharedTile<kDim>;
  const int thread = static_cast<int>(threadIdx.x);
  if constexpr (std::is_same_v<Cached, Float8>) {
    constexpr int kPairs = Tile::kChunks / 2;
    for (int i = thread; i < kDecodeRows * kPairs; i += kDecodeThreads) {
      const int row = i / kPairs, chunk = i % kPairs * 2;
      uint4 low{}, high{};
      if (row < rows) {
        const auto* const from = reinterpret_cast<const uint4*>(q + row * kDim + chunk * 8);
        low = from[0], high = from[1];
      }
      *reinterpret_cast<uint4*>(shared + Tile::Offset(row, chunk)) = EvenColumns(low, high);
      *reinterpret_cast<uint4*>(shared + Tile::Offset(row, chunk + 1)) = OddColumns(low, high);
    }
  } else {
    for (int i = thread; i < kDecodeRows * Tile::kChunks; i += kDecodeThreads) {
      const int row = i / Tile::kChunks, chunk = i % Tile::kChunks;
      CopyAsync16(shared + Tile::Offset(row, chunk), row < rows ? q + row * kDim + chunk * 8 : q, row < rows);
    }
  }
  CommitCopies();
}

/// One warp's keys of [begin, end): steps of kKeys, every kDecodeWarps-th from its own on. Each warp waits
/// for its own copies only.
template <int kDim, typename Cached>
class KeySteps {
 public:
  __device__ KeySteps(const Pages<BFloat16, Cached>& pages, int sequence, int kv_head, int begin, int end,
                      int warp, unsigned char* stages)
      : pages_(pages),
        kv_head_(kv_head),
        sequence_(sequence),
        lane_(static_cast<int>(threadIdx.x) % 32),
        first_(begin + warp * kKeys),
        end_(end),
        stages_(stages),
        row_(Find(0)) {
    for (int step = 0; step < kDecodeStages - 1; ++step) Start(step);
  }

  __device__ int keys(int step) const { return min(end_ - First(step), kKeys); }
  __device__ bool Has(int step) const { return First(step) < end_; }
  __device__ unsigned char* at(int step) const { return stages_ + step % kDecodeStages * Step::kBytes; }

  /// Waits for `step`; steps are waited for in order, and what was there before `step - 1` is gone then.
  __device__ void Wait(int step) {
    WaitForCopies<kDecodeStages - 2>();
    __syncwarp();
    Start(step + kDecodeStages - 1);
  }

 private:
  using Step = DecodeStep<kDim, Cached>;
  using Tile = typename Step::Tile;
  static constexpr int kKeys = Step::kKeys;

  __device__ int First(int step) const { return first_ + step * kSplitKeys<Cached>; }
  /// The cache's row of the lane's key of a step.
  __device__ int Find(int step) const {
    const int key = First(step) + lane_ % kKeys;
    return key < end_ ? pages_.Row(kv_head_, sequence_, key) : -1;
  }

  /// Steps are started in order; the rows of the one after are looked up meanwhile.
  __device__ void Start(int step) {
    constexpr int kChunks = Tile::kChunks, kRowsAtOnce = 32 / kChunks;
    constexpr int kChunkElements = 16 / static_cast<int>(sizeof(Cached));
    if (Has(step)) {
      unsigned char* const k_tile = at(step);
      unsigned char* const v_tile = k_tile + Tile::Bytes(kKeys);
      const int chunk = lane_ % kChunks;
#pragma unroll
      for (int i = 0; i < kKeys; i += kRowsAtOnce) {
        const int key = i + lane_ / kChunks, row = __shfl_sync(0xffffffffu, row_, key);
        const int64_t from = static_cast<int64_t>(max(row, 0)) * kDim + chunk * kChunkElements;
        CopyAsync16(k_tile + Tile::Offset(key, chunk), pages_.k_cache + from, row >= 0);
        CopyAsync16(v_tile + Tile::Offset(key, chunk), pages_.v_cache + from, row >= 0);
      }
      if constexpr (std::is_same_v<Cached, Float8>) {
        static_assert(kKeys == 32);
        auto* const scales = reinterpret_cast<float*>(k_tile + Step::kScales) + lane_;
        CopyAsync4(scales, pages_.k_scales + max(row_, 0), row_ >= 0);
        CopyAsync4(scales + kKeys, pages_.v_scales + max(row_, 0), row_ >= 0);
      }
      row_ = Find(step + 1);
    }
    CommitCopies();
  }

  const Pages<BFloat16, Cached>& pages_;
  const int kv_head_, sequence_, lane_, first_, end_;
  unsigned char* const stages_;
  int row_;
};

}  // namespace internvl::cuda
