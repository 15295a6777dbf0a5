// Causal attention over the paged cache of sequences with several query rows (chunks of prompts).
//
// One layer of a prompt of 2,048 tokens, 56 heads of 128 that share 8: 4 * 2048^2 / 2 * 7168 = 60 GFLOP, 76
// us at 790 TFLOP/s; queries and the cache read and out written once are 67 MB, 22 us at 3.0 TB/s: bound by
// the products. mma.sync reaches 60 to 65 % of that rate, 120 us. It stays with mma.sync: the layer's matrix
// products have 38 times the FLOPs, and more for shorter prompts. 786 tokens are 8.9 GFLOP, 11 us, and 26 MB,
// 9 us.
#include "flash_attention.h"
#include "paged_prefill.h"

namespace internvl::cuda {
namespace {

/// Keys and values of one sequence and head, found through its block table. A tile's rows are in shared
/// memory, those of the next one beside them.
template <typename Cached>
class PagedKeys {
 public:
  using Element = Cached;
  static constexpr int kSharedBytes = 2 * kFlashKeys * static_cast<int>(sizeof(int));
  __device__ PagedKeys(const Pages<BFloat16, Cached>& pages, int sequence, int kv_head)
      : pages_(pages), sequence_(sequence), kv_head_(kv_head) {}
  __device__ void UseShared(unsigned char* bytes) { rows_ = reinterpret_cast<int*>(bytes); }

  __device__ int Find(int tile, int end) const {
    const int thread = static_cast<int>(threadIdx.x), key = tile * kFlashKeys + thread;
    return thread < kFlashKeys && key < end ? pages_.Row(kv_head_, sequence_, key) : 0;
  }
  __device__ void Publish(int tile, int row) {
    if (threadIdx.x < kFlashKeys) rows_[tile % 2 * kFlashKeys + static_cast<int>(threadIdx.x)] = row;
  }
  __device__ auto k(int tile, int row) const { return pages_.Key(Row(tile, row)); }
  __device__ auto v(int tile, int row) const { return pages_.Value(Row(tile, row)); }

 private:
  __device__ int Row(int tile, int row) const { return rows_[tile % 2 * kFlashKeys + row]; }

  const Pages<BFloat16, Cached>& pages_;
  int sequence_, kv_head_;
  int* rows_ = nullptr;
};

/// The first of the tiles set aside for a sequence's rows: as many as start in front of it when rows lie one
/// after the other, and one more for each sequence, since each begins a tile of its own. The host knows how
/// many there are for all without knowing where sequences begin; some stay empty.
template <typename Index>
__host__ __device__ int64_t FirstTile(int64_t row, int group, Index sequence) {
  return row * group / kFlashRows + sequence;
}

/// One block: a key head and one tile of the rows of a sequence, each with the heads that share the key head.
/// Later tiles see more keys and come first.
template <int kDim, typename Cached>
__global__ void __launch_bounds__(kFlashThreads, 2)
    PagedPrefill(const __grid_constant__ Pages<BFloat16, Cached> pages) {
  const int kv_head = static_cast<int>(blockIdx.x) % pages.kv_heads, group = pages.group();
  const int64_t tile = (gridDim.x - 1 - blockIdx.x) / static_cast<unsigned>(pages.kv_heads);
  const int sequence = pages.Find(tile, [&](int s) { return FirstTile(pages.query_start[s], group, s); });
  const int64_t row = pages.query_start[sequence];
  const int rows = pages.queries(sequence), context = pages.context_lengths[sequence];
  const int first = static_cast<int>(tile - FirstTile(row, group, sequence)) * kFlashRows;
  if (rows <= 1 || first >= rows * group) return;
  const int64_t head = static_cast<int64_t>(kv_head) * group;
  const QueryTile queries(pages.qkv + row * pages.qkv_width() + head * kDim, pages.qkv_width(),
                          pages.out + row * pages.width() + head * kDim, pages.width(), group, first,
                          rows * group, context - rows + 1, context);
  FlashAttention<kDim>(queries, PagedKeys<Cached>(pages, sequence, kv_head), pages.scale,
                       DynamicShared<unsigned char>());
}

template <int kDim, typename Cached>
void LaunchTiles(const Pages<BFloat16, Cached>& pages, int64_t tiles, cudaStream_t stream) {
  constexpr int kBytes = FlashSharedBytes<kDim, PagedKeys<Cached>>();
  AllowDynamicShared(PagedPrefill<kDim, Cached>, kBytes);
  Launch(PagedPrefill<kDim, Cached>, dim3(static_cast<unsigned>(tiles * pages.kv_heads)), dim3(kFlashThreads),
         kBytes, stream, pages);
}

}  // namespace

template <typename Cached>
void LaunchPagedPrefill(const Pages<BFloat16, Cached>& pages, int64_t rows, cudaStream_t stream) {
  const int64_t tiles = FirstTile(rows, pages.group(), pages.sequences);
  if (pages.dim == 128) return LaunchTiles<128>(pages, tiles, stream);
  LaunchTiles<64>(pages, tiles, stream);
}

template void LaunchPagedPrefill(const Pages<BFloat16, BFloat16>&, int64_t, cudaStream_t);
template void LaunchPagedPrefill(const Pages<BFloat16, Float8>&, int64_t, cudaStream_t);

}  // namespace internvl::cuda
