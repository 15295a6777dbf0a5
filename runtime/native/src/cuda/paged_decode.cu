// Attention over the paged cache of sequences with one query row (flash-decoding): the context of a sequence
// is cut into splits, blocks attend to one each, and a second kernel puts together what they found.
//
// One layer, 8 key heads of 128: a token of context is 4,096 bytes of keys and values, read once, and 56
// heads make 28,672 FLOPs of it, 7 a byte: bound by memory. At 3.0 TB/s 32 sequences of 1,000 tokens take 44
// us, one takes 1.4 us, which is less than the launches. To keep 3.0 TB/s busy for a latency of 0.7 us needs
// 16 KB under way on each of 132 multiprocessors; here each of 8 warps has up to 16 KB.
#include <algorithm>

#include "async_copy.h"
#include "paged_decode.h"
#include "warp_attention.h"

namespace internvl::cuda {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * 32;
constexpr int kStepKeys = 16;                   // of a warp
constexpr int kSplitKeys = kWarps * kStepKeys;  // a split has a multiple of it
constexpr int kStages = 3;                      // steps of a warp in shared memory
constexpr int kRows = 16;                       // of a block: heads that share a key head, the rest is empty

/// Keys of each split; those at the end of `splits` may get none.
__host__ __device__ constexpr int KeysOfSplit(int context, int splits) {
  return ((context + splits - 1) / splits + kSplitKeys - 1) / kSplitKeys * kSplitKeys;
}

/// Shared memory: the queries, then for each warp kStages steps of keys and values, of which the first part
/// holds its result in the end.
template <int kDim>
struct DecodeShared {
  using Tile = SharedTile<kDim>;
  static constexpr int kStepBytes = Tile::Bytes(2 * kStepKeys);
  static constexpr int kWarpBytes = kStages * kStepBytes;
  static constexpr int kQueryBytes = Tile::Bytes(kRows);
  static constexpr int kBytes = kQueryBytes + kWarps * kWarpBytes;

  /// 8 more than a row has, so that stores of a fragment's 8 rows reach all banks.
  static constexpr int kResultStride = kDim + 8;
  float* output;   // [kRows][kResultStride], not divided by the sums
  float* maximum;  // [kRows], of scaled scores
  float* sum;      // [kRows]
  __device__ DecodeShared(unsigned char* shared, int warp)
      : output(reinterpret_cast<float*>(shared + kQueryBytes + warp * kWarpBytes)),
        maximum(output + kRows * kResultStride),
        sum(maximum + kRows) {}
  static_assert((kRows * kResultStride + 2 * kRows) * static_cast<int>(sizeof(float)) <= kWarpBytes);
};

/// One warp's keys of [begin, end): steps of kStepKeys, every kWarps-th from its own on. Each warp waits for
/// its own copies only.
template <int kDim>
class KeySteps {
 public:
  using Tile = SharedTile<kDim>;

  __device__ KeySteps(const Pages<BFloat16>& pages, int sequence, int kv_head, int begin, int end, int warp,
                      unsigned char* stages)
      : pages_(pages),
        column_(static_cast<int64_t>(kv_head) * kDim),
        sequence_(sequence),
        lane_(static_cast<int>(threadIdx.x) % 32),
        first_(begin + warp * kStepKeys),
        end_(end),
        stages_(stages),
        slot_(Find(0)) {
    for (int step = 0; step < kStages - 1; ++step) Start(step);
  }

  __device__ int keys(int step) const { return min(end_ - First(step), kStepKeys); }
  __device__ bool Has(int step) const { return First(step) < end_; }
  __device__ const unsigned char* k(int step) const { return stages_ + step % kStages * kStageBytes; }
  __device__ const unsigned char* v(int step) const { return k(step) + Tile::Bytes(kStepKeys); }

  /// Waits for `step`; steps are waited for in order, and what was there before `step - 1` is gone then.
  __device__ void Wait(int step) {
    WaitForCopies<kStages - 2>();
    __syncwarp();
    Start(step + kStages - 1);
  }

 private:
  static constexpr int kStageBytes = DecodeShared<kDim>::kStepBytes;

  __device__ int First(int step) const { return first_ + step * kSplitKeys; }
  /// The slot of the lane's key of a step.
  __device__ int Find(int step) const {
    const int key = First(step) + lane_ % kStepKeys;
    return key < end_ ? pages_.Slot(sequence_, key) : -1;
  }

  /// Steps are started in order; the slots of the one after are looked up meanwhile.
  __device__ void Start(int step) {
    constexpr int kChunks = Tile::kChunks, kRowsAtOnce = 32 / kChunks;
    if (Has(step)) {
      unsigned char* const k_tile = stages_ + step % kStages * kStageBytes;
      unsigned char* const v_tile = k_tile + Tile::Bytes(kStepKeys);
      const int chunk = lane_ % kChunks;
      const int64_t stride = pages_.kv_width();
#pragma unroll
      for (int i = 0; i < kStepKeys; i += kRowsAtOnce) {
        const int row = i + lane_ / kChunks, slot = __shfl_sync(0xffffffffu, slot_, row);
        const int64_t from = max(slot, 0) * stride + column_ + chunk * 8;
        CopyAsync16(k_tile + Tile::Offset(row, chunk), pages_.k_cache + from, slot >= 0);
        CopyAsync16(v_tile + Tile::Offset(row, chunk), pages_.v_cache + from, slot >= 0);
      }
      slot_ = Find(step + 1);
    }
    CommitCopies();
  }

  const Pages<BFloat16>& pages_;
  const int64_t column_;
  const int sequence_, lane_, first_, end_;
  unsigned char* const stages_;
  int slot_;
};

/// Puts together what the warps found of the block's rows, and stores it: as the result where there is one
/// split, else as a partial result.
template <int kDim>
__device__ void StoreSplit(const Pages<BFloat16>& pages, const DecodePartials& partials, int sequence,
                           int first_head, int rows, int split, bool alone, unsigned char* shared) {
  constexpr int kColumns = 4;  // of a thread at once
  const int64_t query = pages.query_start[sequence];
  for (int i = static_cast<int>(threadIdx.x); i < rows * (kDim / kColumns); i += kThreads) {
    const int row = i / (kDim / kColumns), column = i % (kDim / kColumns) * kColumns;
    float maximum = -INFINITY;
    for (int warp = 0; warp < kWarps; ++warp) {
      maximum = fmaxf(maximum, DecodeShared<kDim>(shared, warp).maximum[row]);
    }
    float total = 0.0f;
    float4 output = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (int warp = 0; warp < kWarps; ++warp) {
      const DecodeShared<kDim> part(shared, warp);
      const float weight = Exp2(part.maximum[row] - maximum);  // 0 of a warp without keys
      const float4 values =
          *reinterpret_cast<const float4*>(part.output + row * DecodeShared<kDim>::kResultStride + column);
      total += part.sum[row] * weight;
      output.x += values.x * weight;
      output.y += values.y * weight;
      output.z += values.z * weight;
      output.w += values.w * weight;
    }
    const float inverse = 1.0f / total;
    output = make_float4(output.x * inverse, output.y * inverse, output.z * inverse, output.w * inverse);
    const int64_t head = first_head + row;
    if (alone) {
      *reinterpret_cast<uint2*>(pages.out + query * pages.width() + head * kDim + column) =
          make_uint2(PackBf16(output.x, output.y), PackBf16(output.z, output.w));
    } else {
      const int64_t part = (static_cast<int64_t>(sequence) * pages.heads + head) * partials.splits + split;
      *reinterpret_cast<float4*>(partials.output + part * kDim + column) = output;
      if (column == 0) partials.log_sum[part] = maximum + log2f(total);
    }
  }
}

/// One block: split blockIdx.x of sequence blockIdx.z for kRows heads that share a key head.
template <int kDim>
__global__ void __launch_bounds__(kThreads, 2)
    DecodeSplit(const __grid_constant__ Pages<BFloat16> pages, const DecodePartials partials) {
  using Shared = DecodeShared<kDim>;
  const int split = static_cast<int>(blockIdx.x), sequence = static_cast<int>(blockIdx.z);
  const int queries = pages.queries(sequence), context = pages.context_lengths[sequence];
  if (queries != 1) return;
  const int split_keys = KeysOfSplit(context, partials.splits), begin = split * split_keys;
  if (begin >= context) return;

  unsigned char* const shared = DynamicShared<unsigned char>();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = WarpOfBlock();
  const int group = pages.group(), tiles = (group + kRows - 1) / kRows;
  const int kv_head = static_cast<int>(blockIdx.y) / tiles;
  const int first = static_cast<int>(blockIdx.y) % tiles * kRows;  // of the heads that share the key head
  const int first_head = kv_head * group + first, rows = min(group - first, kRows);
  constexpr int kChunks = SharedTile<kDim>::kChunks;
  for (int i = thread; i < kRows * kChunks; i += kThreads) {
    const int row = i / kChunks, chunk = i % kChunks;
    const BFloat16* const q = pages.qkv + pages.query_start[sequence] * pages.qkv_width();
    CopyAsync16(shared + SharedTile<kDim>::Offset(row, chunk),
                row < rows ? q + static_cast<int64_t>(first_head + row) * kDim + chunk * 8 : q, row < rows);
  }
  CommitCopies();

  KeySteps<kDim> steps(pages, sequence, kv_head, begin, min(begin + split_keys, context), warp,
                       shared + Shared::kQueryBytes + warp * Shared::kWarpBytes);
  WaitForCopies<kStages - 1>();
  __syncthreads();  // all of the queries are there
  WarpAttention<kDim, 1, kStepKeys> attention(pages.scale, lane);
  for (int step = 0; steps.Has(step); ++step) {
    steps.Wait(step);
    const int keys = steps.keys(step);
    attention.template Score<true>(shared, steps.k(step), kStepKeys);
    attention.template Absorb<false>(lane, [&](int) { return keys; });
    attention.template Accumulate<true>(steps.v(step), kStepKeys);
  }

  attention.Finish();
  WaitForCopies<0>();
  __syncwarp();  // the warp needs its keys and values no more
  const Shared mine(shared, warp);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = half * 8 + lane / 4;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
      *reinterpret_cast<float2*>(mine.output + row * Shared::kResultStride + n * 8 + lane % 4 * 2) =
          make_float2(attention.output[0][n][half * 2], attention.output[0][n][half * 2 + 1]);
    }
    if (lane % 4 == 0) {
      mine.maximum[row] = attention.maximum[0][half] * attention.scale;
      mine.sum[row] = attention.sum[0][half];
    }
  }
  __syncthreads();
  StoreSplit<kDim>(pages, partials, sequence, first_head, rows, split, split_keys >= context, shared);
}

/// One block: head blockIdx.x of sequence blockIdx.y, a thread for each of its columns.
template <int kDim>
__global__ void __launch_bounds__(kDim)
    CombineSplits(const Pages<BFloat16> pages, const DecodePartials partials) {
  const int head = static_cast<int>(blockIdx.x), sequence = static_cast<int>(blockIdx.y);
  const int queries = pages.queries(sequence), context = pages.context_lengths[sequence];
  if (queries != 1) return;
  const int split_keys = KeysOfSplit(context, partials.splits);
  if (split_keys >= context) return;  // the one split has stored the result
  const int used = (context + split_keys - 1) / split_keys;
  const int64_t first = (static_cast<int64_t>(sequence) * pages.heads + head) * partials.splits;
  const float* const log_sums = partials.log_sum + first;
  const float* const outputs = partials.output + first * kDim + threadIdx.x;
  float maximum = -INFINITY;
  for (int i = 0; i < used; ++i) maximum = fmaxf(maximum, log_sums[i]);
  float total = 0.0f, output = 0.0f;
#pragma unroll 4
  for (int i = 0; i < used; ++i) {
    const float weight = Exp2(log_sums[i] - maximum);
    total += weight;
    output += outputs[i * kDim] * weight;
  }
  pages.out[pages.query_start[sequence] * pages.width() + static_cast<int64_t>(head) * kDim + threadIdx.x]
      .bits = static_cast<uint16_t>(PackBf16(output / total, 0.0f));
}

constexpr int64_t HeadTiles(int64_t heads, int64_t kv_heads) {
  return kv_heads * ((heads / kv_heads + kRows - 1) / kRows);
}

template <int kDim>
void LaunchSplits(const Pages<BFloat16>& pages, const DecodePartials& partials, cudaStream_t stream) {
  AllowDynamicShared(DecodeSplit<kDim>, DecodeShared<kDim>::kBytes);
  const auto sequences = static_cast<unsigned>(pages.sequences);
  const dim3 grid(static_cast<unsigned>(partials.splits),
                  static_cast<unsigned>(HeadTiles(pages.heads, pages.kv_heads)), sequences);
  Launch(DecodeSplit<kDim>, grid, dim3(kThreads), DecodeShared<kDim>::kBytes, stream, pages, partials);
  if (partials.splits == 1) return;
  Launch(CombineSplits<kDim>, dim3(static_cast<unsigned>(pages.heads), sequences), dim3(kDim), 0, stream,
         pages, partials);
}

}  // namespace

int DecodeSplits(int64_t sequences, int64_t heads, int64_t kv_heads, int64_t most_keys, int multiprocessors) {
  const int64_t others = sequences * HeadTiles(heads, kv_heads);
  const int64_t wanted = (2 * multiprocessors + others - 1) / others;
  return static_cast<int>(std::clamp<int64_t>((most_keys + kSplitKeys - 1) / kSplitKeys, 1, wanted));
}

void LaunchPagedDecode(const Pages<BFloat16>& pages, const DecodePartials& partials, cudaStream_t stream) {
  if (pages.dim == 128) return LaunchSplits<128>(pages, partials, stream);
  LaunchSplits<64>(pages, partials, stream);
}

}  // namespace internvl::cuda
