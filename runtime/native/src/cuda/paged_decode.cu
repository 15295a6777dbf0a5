// Attention over the paged cache of sequences with one query row (flash-decoding): the context of a sequence
// is cut into splits, blocks attend to one each, and a second kernel puts together what they found.
//
// One layer, 8 key heads of 128: a token of context is 4,096 bytes of keys and values, read once, and 56
// heads make 28,672 FLOPs of it, 7 a byte: bound by memory. At 3.0 TB/s 32 sequences of 1,000 tokens take 44
// us, one takes 1.4 us, which is less than the launches. To keep 3.0 TB/s busy for a latency of 0.7 us needs
// 16 KB under way on each of 132 multiprocessors; here each of 8 warps has up to 16 KB.
#include <algorithm>

#include "decode_steps.h"
#include "paged_decode.h"

namespace internvl::cuda {
namespace {

/// Puts together what the warps found of the block's rows, and stores it: as the result where there is one
/// split, else as a partial result.
template <int kDim, typename Cached>
__device__ void StoreSplit(const Pages<BFloat16, Cached>& pages, const DecodePartials& partials, int sequence,
                           int first_head, int rows, int split, bool alone, unsigned char* shared) {
  using Shared = DecodeShared<kDim, Cached>;
  constexpr int kColumns = 4;  // of a thread at once
  const int64_t query = pages.query_start[sequence];
  for (int i = static_cast<int>(threadIdx.x); i < rows * (kDim / kColumns); i += kDecodeThreads) {
    const int row = i / (kDim / kColumns), column = i % (kDim / kColumns) * kColumns;
    float maximum = -INFINITY;
    for (int warp = 0; warp < kDecodeWarps; ++warp) {
      maximum = fmaxf(maximum, Shared(shared, warp).maximum[row]);
    }
    float total = 0.0f;
    float4 output = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (int warp = 0; warp < kDecodeWarps; ++warp) {
      const Shared part(shared, warp);
      const float weight = Exp2(part.maximum[row] - maximum);  // 0 of a warp without keys
      const float4 values =
          *reinterpret_cast<const float4*>(part.output + row * Shared::kResultStride + column);
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

/// One block: split blockIdx.x of sequence blockIdx.z for kDecodeRows heads that share a key head.
template <int kDim, typename Cached>
__global__ void __launch_bounds__(kDecodeThreads, 2)
    DecodeSplit(const __grid_constant__ Pages<BFloat16, Cached> pages, const DecodePartials partials) {
  using Shared = DecodeShared<kDim, Cached>;
  const int split = static_cast<int>(blockIdx.x), sequence = static_cast<int>(blockIdx.z);
  const int queries = pages.queries(sequence), context = pages.context_lengths[sequence];
  if (queries != 1) return;
  const int split_keys = KeysOfSplit<Cached>(context, partials.splits), begin = split * split_keys;
  if (begin >= context) return;

  unsigned char* const shared = DynamicShared<unsigned char>();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = WarpOfBlock();
  const int group = pages.group(), tiles = (group + kDecodeRows - 1) / kDecodeRows;
  const int kv_head = static_cast<int>(blockIdx.y) / tiles;
  const int first =
      static_cast<int>(blockIdx.y) % tiles * kDecodeRows;  // of the heads that share the key head
  const int first_head = kv_head * group + first, rows = min(group - first, kDecodeRows);
  const BFloat16* const q = pages.qkv + pages.query_start[sequence] * pages.qkv_width();
  StartQueries<kDim, Cached>(q + static_cast<int64_t>(first_head) * kDim, rows, shared);

  KeySteps<kDim, Cached> steps(pages, sequence, kv_head, begin, min(begin + split_keys, context), warp,
                               shared + Shared::kQueryBytes + warp * Shared::kWarpBytes);
  WaitForCopies<kDecodeStages - 1>();
  __syncthreads();  // all of the queries are there
  typename DecodeStep<kDim, Cached>::Attention attention(pages.scale, lane);
  for (int step = 0; steps.Has(step); ++step) {
    steps.Wait(step);
    const int keys = steps.keys(step);
    DecodeStep<kDim, Cached>::Score(attention, shared, steps.at(step));
    attention.template Absorb<false>(lane, [&](int) { return keys; });
    DecodeStep<kDim, Cached>::Accumulate(attention, steps.at(step));
  }

  attention.Finish();
  WaitForCopies<0>();
  __syncwarp();  // the warp needs its keys and values no more
  const Shared mine(shared, warp);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = half * 8 + lane / 4;
    attention.StoreOutput(half, mine.output + row * Shared::kResultStride);
    if (lane % 4 == 0) {
      mine.maximum[row] = attention.maximum[0][half] * attention.scale;
      mine.sum[row] = attention.sum[0][half];
    }
  }
  __syncthreads();
  StoreSplit<kDim>(pages, partials, sequence, first_head, rows, split, split_keys >= context, shared);
}

/// One block: head blockIdx.x of sequence blockIdx.y, a thread for each of its columns.
template <int kDim, typename Cached>
__global__ void __launch_bounds__(kDim)
    CombineSplits(const Pages<BFloat16, Cached> pages, const DecodePartials partials) {
  const int head = static_cast<int>(blockIdx.x), sequence = static_cast<int>(blockIdx.y);
  const int queries = pages.queries(sequence), context = pages.context_lengths[sequence];
  if (queries != 1) return;
  const int split_keys = KeysOfSplit<Cached>(context, partials.splits);
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
  return kv_heads * ((heads / kv_heads + kDecodeRows - 1) / kDecodeRows);
}

template <int kDim, typename Cached>
void LaunchSplits(const Pages<BFloat16, Cached>& pages, const DecodePartials& partials, cudaStream_t stream) {
  constexpr int kBytes = DecodeShared<kDim, Cached>::kBytes;
  AllowDynamicShared(DecodeSplit<kDim, Cached>, kBytes);
  const auto sequences = static_cast<unsigned>(pages.sequences);
  const dim3 grid(static_cast<unsigned>(partials.splits),
                  static_cast<unsigned>(HeadTiles(pages.heads, pages.kv_heads)), sequences);
  Launch(DecodeSplit<kDim, Cached>, grid, dim3(kDecodeThreads), kBytes, stream, pages, partials);
  if (partials.splits == 1) return;
  Launch(CombineSplits<kDim, Cached>, dim3(static_cast<unsigned>(pages.heads), sequences), dim3(kDim), 0,
         stream, pages, partials);
}

}  // namespace

template <typename Cached>
int DecodeSplits(int64_t sequences, int64_t heads, int64_t kv_heads, int64_t most_keys, int multiprocessors) {
  const int64_t others = sequences * HeadTiles(heads, kv_heads);
  const int64_t wanted = (2 * multiprocessors + others - 1) / others;
  return static_cast<int>(
      std::clamp<int64_t>((most_keys + kSplitKeys<Cached> - 1) / kSplitKeys<Cached>, 1, wanted));
}

template <typename Cached>
void LaunchPagedDecode(const Pages<BFloat16, Cached>& pages, const DecodePartials& partials,
                       cudaStream_t stream) {
  if (pages.dim == 128) return LaunchSplits<128>(pages, partials, stream);
  LaunchSplits<64>(pages, partials, stream);
}

template int DecodeSplits<BFloat16>(int64_t, int64_t, int64_t, int64_t, int);
template int DecodeSplits<Float8>(int64_t, int64_t, int64_t, int64_t, int);
template void LaunchPagedDecode(const Pages<BFloat16, BFloat16>&, const DecodePartials&, cudaStream_t);
template void LaunchPagedDecode(const Pages<BFloat16, Float8>&, const DecodePartials&, cudaStream_t);

}  // namespace internvl::cuda
