// Attention of one tile of query rows by one block: keys and values pass through shared memory tile by tile,
// those of one tile arriving while the tensor cores work on what came before (flash attention 2).
//
// Shared memory holds one tile of keys and one of values: the values of a tile arrive while its scores are
// computed, the next keys while its values are added. That is 64 KB of it at 128 per head, so that two blocks
// fit on a multiprocessor from sm_80 on, and one's exponentials run beside the other's products. 4 warps have
// 32 rows each and not 16, so that each fragment of keys and values is read for two products: at 16 rows the
// reads from shared memory would take longer than the products.
#pragma once

#include "tile_copy.h"
#include "warp_attention.h"

namespace internvl::cuda {

constexpr int kFlashRows = 128, kFlashKeys = 64, kFlashThreads = 128;

/// What a block computes: `count` query rows, one for each head of the group that shares a key head, query by
/// query. Row 0 is head first_head of the group.
struct QueryTile {
  const BFloat16* q;  // head 0 of row 0's query
  BFloat16* out;
  int64_t q_stride, out_stride;  // from one query to the next
  int group, first_head, count;
  int row_0_sees;  // so many keys; each further query one more,
  int keys;        // but none more than so many
  // Divides exactly what rows there are by groups of up to 2048 heads.
  uint32_t reciprocal;

  /// Rows [first, first + kFlashRows) of `rows` of a sequence of which q and out are the first query. That
  /// one sees `first_sees` keys, and none more than `keys`.
  __device__ QueryTile(const BFloat16* q, int64_t q_stride, BFloat16* out, int64_t out_stride, int group,
                       int first, int rows, int first_sees, int keys)
      : q(q + first / group * q_stride),
        out(out + first / group * out_stride),
        q_stride(q_stride),
        out_stride(out_stride),
        group(group),
        first_head(first % group),
        count(min(kFlashRows, rows - first)),
        row_0_sees(first_sees + first / group),
        keys(keys),
        reciprocal(((1u << 24) + static_cast<uint32_t>(group) - 1) / static_cast<uint32_t>(group)) {}

  __device__ int query(int row) const {
    return static_cast<int>((static_cast<uint32_t>(first_head + row) * reciprocal) >> 24);
  }
  __device__ int64_t head(int row) const { return first_head + row - query(row) * group; }
  __device__ int Visible(int row) const { return min(row_0_sees + query(row), keys); }
};

/// Keys and values of one head, one after the other with a stride.
class DenseKeys {
 public:
  using Element = BFloat16;
  static constexpr int kSharedBytes = 0;
  /// Values are so many elements after their keys.
  __device__ DenseKeys(const BFloat16* k, int64_t values, int64_t stride)
      : k_(k), values_(values), stride_(stride) {}
  __device__ void UseShared(unsigned char*) {}

  // A tile's places are looked up by Find, handed to the block by Publish and, after a barrier, used by k and
  // v until another is published two tiles later.
  __device__ int Find(int, int) const { return 0; }
  __device__ void Publish(int, int) {}
  __device__ const BFloat16* k(int tile, int row) const { return k_ + Place(tile, row); }
  __device__ const BFloat16* v(int tile, int row) const { return k_ + (values_ + Place(tile, row)); }

 private:
  __device__ int64_t Place(int tile, int row) const { return (tile * kFlashKeys + row) * stride_; }

  const BFloat16* k_;
  int64_t values_, stride_;
};

template <int kDim, typename Keys>
using KeysCopy = TileCopy<kDim, kFlashKeys, kFlashThreads, typename Keys::Element>;

template <int kDim, typename Keys>
constexpr int FlashSharedBytes() {
  return SharedTile<kDim>::Bytes(kFlashRows + 2 * kFlashKeys) + KeysCopy<kDim, Keys>::kSharedBytes +
         static_cast<int>(sizeof(QueryTile)) + Keys::kSharedBytes;
}

/// All of kFlashThreads threads call, with FlashSharedBytes of shared memory, aligned to 128 bytes.
template <int kDim, typename Keys>
__device__ void FlashAttention(const QueryTile& work, Keys keys, float scale, unsigned char* shared) {
  using Tile = SharedTile<kDim>;
  constexpr int kWarpRows = 32;
  unsigned char* const q_tile = shared;
  unsigned char* const k_tile = q_tile + Tile::Bytes(kFlashRows);
  unsigned char* const v_tile = k_tile + Tile::Bytes(kFlashKeys);
  // Of keys and of values in turn: one's are finished before the other's start.
  const KeysCopy<kDim, Keys> copy(v_tile + Tile::Bytes(kFlashKeys));
  // In shared memory, as registers are what this kernel has none left of.
  auto* const in_shared =
      reinterpret_cast<QueryTile*>(v_tile + Tile::Bytes(kFlashKeys) + KeysCopy<kDim, Keys>::kSharedBytes);
  keys.UseShared(reinterpret_cast<unsigned char*>(in_shared + 1));
  const int lane = static_cast<int>(threadIdx.x) % 32, warp_row = WarpOfBlock() * kWarpRows;
  if (threadIdx.x == 0) *in_shared = work;
  const QueryTile& queries = *in_shared;
  // What the block's last row sees, and how many rows of the warp there are.
  const int end = work.Visible(work.count - 1);
  const int warp_rows = min(work.count - warp_row, kWarpRows);
  unsigned char* const warp_q = q_tile + Tile::Bytes(warp_row);

  const auto copy_keys = [&](int tile) {
    copy.Start(k_tile, end - tile * kFlashKeys, [&](int row) { return keys.k(tile, row); });
    CommitCopies();
  };
  const auto copy_values = [&](int tile) {
    copy.Start(v_tile, end - tile * kFlashKeys, [&](int row) { return keys.v(tile, row); });
    CommitCopies();
  };

  keys.Publish(0, keys.Find(0, end));
  __syncthreads();
  CopyRows<kDim, kFlashRows, kFlashThreads>(q_tile, queries.count, [&](int row) {
    return queries.q + queries.query(row) * queries.q_stride + queries.head(row) * kDim;
  });
  copy_keys(0);

  WarpAttention<kDim, 2, kFlashKeys> attention(scale, lane);
  // Keys that all of the warp's rows see, and that any of them does.
  const int all_see = warp_rows > 0 ? queries.Visible(warp_row) : 0;
  const int any_sees = warp_rows > 0 ? queries.Visible(warp_row + warp_rows - 1) : 0;
  const int tiles = (end + kFlashKeys - 1) / kFlashKeys;
  for (int tile = 0; tile < tiles; ++tile) {
    const int start = tile * kFlashKeys;
    const bool all = start + kFlashKeys <= all_see, any = start < any_sees;
    const int next = keys.Find(tile + 1, end);
    WaitForCopies<0>();
    copy.Finish(k_tile);
    __syncthreads();  // the keys are there, and nobody needs the values before these any more
    copy_values(tile);
    if (all) {
      attention.template Score<true>(warp_q, k_tile, kFlashKeys);
      attention.template Absorb<true>(lane, [](int) { return kFlashKeys; });
    } else if (any) {
      attention.template Score<false>(warp_q, k_tile, any_sees - start);
      // Rows that are not there see what the last one does.
      attention.template Absorb<false>(
          lane, [&](int row) { return queries.Visible(warp_row + min(row, warp_rows - 1)) - start; });
    }
    keys.Publish(tile + 1, next);
    WaitForCopies<0>();
    copy.Finish(v_tile);
    __syncthreads();  // the values are there, and nobody needs the keys any more
    if (tile + 1 < tiles) copy_keys(tile + 1);
    if (all) {
      attention.template Accumulate<true>(v_tile, kFlashKeys);
    } else if (any) {
      attention.template Accumulate<false>(v_tile, any_sees - start);
    }
  }
  if (warp_rows <= 0) return;

  // Through the warp's rows of q, which nobody else reads, for stores of whole rows.
  attention.Finish();
#pragma unroll
  for (int r = 0; r < 2; ++r) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = r * 16 + half * 8 + lane / 4;
      const float inverse = 1.0f / attention.sum[r][half];
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
        const float* const pair = attention.output[r][n] + half * 2;
        *reinterpret_cast<uint32_t*>(warp_q + Tile::Offset(row, n) + lane % 4 * 4) =
            PackBf16(pair[0] * inverse, pair[1] * inverse);
      }
    }
  }
  __syncwarp();
  constexpr int kRowsAtOnce = 32 / Tile::kChunks;
  for (int row = lane / Tile::kChunks; row < warp_rows; row += kRowsAtOnce) {
    const int at = warp_row + row, chunk = lane % Tile::kChunks;
    BFloat16* const out = queries.out + queries.query(at) * queries.out_stride + queries.head(at) * kDim;
    *reinterpret_cast<uint4*>(out + chunk * 8) =
        *reinterpret_cast<const uint4*>(warp_q + Tile::Offset(row, chunk));
  }
}

}  // namespace internvl::cuda
