// Bidirectional attention of the vision encoder.
#include <algorithm>

#include "cpu_backend.h"
#include "pair_products.h"
#include "parallel.h"
#include "row_math.h"
#include "softmax_tile.h"

namespace internvl {
namespace {

constexpr int64_t kQueries = 64;
constexpr int64_t kKeys = 512;
// In pairs the keys of a tile are put in another order first, which takes many queries to repay.
constexpr int64_t kPairQueries = 256;
constexpr int64_t kPairKeys = 128;

struct Heads {
  int64_t length, count, dim;
  float scale;
  int64_t width() const { return count * dim; }
};

/// One image, head by head and tile by tile of up to `most` query rows: attend(first column of the head,
/// first query, count, the thread's memory) leaves what the queries get.
template <typename T, typename Attend>
void ForTiles(const Heads& heads, int64_t most, T* out, float* memory, int64_t memory_per_thread,
              Attend&& attend) {
  const int64_t tiles = (heads.length + most - 1) / most;
  ParallelForUneven(heads.count * tiles, heads.length * heads.length * heads.count,
                    [&](int64_t item, int thread) {
                      const int64_t column = item / tiles * heads.dim, tile = item % tiles;
                      const int64_t first = heads.length * tile / tiles;
                      const int64_t count = heads.length * (tile + 1) / tiles - first;
                      const float* rows = attend(column, first, count, memory + thread * memory_per_thread);
                      for (int64_t i = 0; i < count; ++i) {
                        Narrow(rows + i * heads.dim, out + (first + i) * heads.width() + column, heads.dim);
                      }
                    });
}

/// qkv [length, 3 * width] of one image in float32 -> out [length, width].
template <typename T>
void AttendImage(const float* qkv, const Heads& heads, T* out, float* memory, int64_t memory_per_thread) {
  const int64_t stride = 3 * heads.width();
  ForTiles(heads, kQueries, out, memory, memory_per_thread,
           [&](int64_t column, int64_t first, int64_t queries, float* mine) -> const float* {
             SoftmaxTile tile(mine, kQueries, kKeys, heads.dim);
             tile.Reset(queries, heads.dim);
             for (int64_t key = 0; key < heads.length; key += kKeys) {
               const int64_t keys = std::min(kKeys, heads.length - key);
               const float* k = qkv + key * stride + heads.width() + column;
               tile.Add(qkv + first * stride + column, stride, queries, k, k + heads.width(), stride, keys,
                        heads.dim, heads.scale, [keys](int64_t) { return keys; });
             }
             tile.Finish(queries, heads.dim);
             return tile.output;
           });
}

/// The same in bfloat16 pairs.
void AttendImageInPairs(const BFloat16* qkv, const Heads& heads, BFloat16* out, float* memory,
                        int64_t memory_per_thread) {
  const int64_t stride = 3 * heads.width();
  ForTiles(heads, kPairQueries, out, memory, memory_per_thread,
           [&](int64_t column, int64_t first, int64_t queries, float* mine) -> const float* {
             SoftmaxTile tile(mine, kPairQueries, kPairKeys, heads.dim);
             const PairedFactors factors(mine + SoftmaxTile::Floats(kPairQueries, kPairKeys, heads.dim),
                                         kPairKeys, heads.dim);
             tile.Reset(queries, heads.dim);
             for (int64_t key = 0; key < heads.length; key += kPairKeys) {
               const int64_t keys = std::min(kPairKeys, heads.length - key);
               const BFloat16* k = qkv + key * stride + heads.width() + column;
               tile.AddPairs(factors, qkv + first * stride + column, stride, queries, k, k + heads.width(),
                             stride, keys, heads.dim, heads.scale, [keys](int64_t) { return keys; });
             }
             tile.Finish(queries, heads.dim);
             return tile.output;
           });
}

int64_t FloatsPerThread(int64_t dim) {
  return std::max(SoftmaxTile::Floats(kQueries, kKeys, dim),
                  SoftmaxTile::Floats(kPairQueries, kPairKeys, dim) +
                      PairedFactors::Floats(kPairQueries, kPairKeys, dim));
}

}  // namespace

void CpuBackend::VisionAttention(const Tensor& qkv, int64_t length, int64_t count, int64_t dim, float scale,
                                 const Tensor& out) {
  const Heads heads{.length = length, .count = count, .dim = dim, .scale = scale};
  const int64_t width = heads.width();
  Scratch scratch(arena());
  const int64_t per_thread = FloatsPerThread(dim);
  float* memory = scratch.Get<float>(MaxThreads() * per_thread);
  const bool in_pairs = qkv.dtype == DType::kBFloat16 && HasPairRows() && dim % kPairLength == 0;
  const bool widened = qkv.dtype == DType::kBFloat16 && !in_pairs;
  float* wide = widened ? scratch.Get<float>(length * 3 * width) : nullptr;
  for (int64_t start = 0; start < qkv.rows(); start += length) {
    if (qkv.dtype == DType::kFloat32) {
      AttendImage(qkv.row<float>(start), heads, out.row<float>(start), memory, per_thread);
    } else if (in_pairs) {
      AttendImageInPairs(qkv.row<BFloat16>(start), heads, out.row<BFloat16>(start), memory, per_thread);
    } else {
      ParallelFor(length, length * 3 * width, [&](int64_t r, int) {
        Widen(qkv.row<BFloat16>(start + r), wide + r * 3 * width, 3 * width);
      });
      AttendImage(wide, heads, out.row<BFloat16>(start), memory, per_thread);
    }
  }
}

}  // namespace internvl
