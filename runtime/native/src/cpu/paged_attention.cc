// Causal attention over the paged cache. A sequence with few query rows (decode) reads its keys and values
// where they lie; one with many (prefill) gathers them tile by tile and multiplies matrices, in bfloat16
// pairs where the processor has products for them, in float32 elsewhere. Those of a float8 cache are always
// gathered, which is where they are widened.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "cpu_backend.h"
#include "pair_products.h"
#include "parallel.h"
#include "row_math.h"
#include "row_products.h"
#include "softmax_tile.h"
#include "tile_decode.h"

namespace internvl {
namespace {

constexpr int64_t kTileQueries = 32;  // query rows of a tile; times the query heads that share a key head
constexpr int64_t kTileKeys = 128;
constexpr int64_t kDecodeKeys = 256;   // keys of a decode step between two updates of the running sums
constexpr int64_t kDecodeQueries = 4;  // up to so many query rows are done without gathering

struct Pages {
  Tensor qkv, k_cache, v_cache, out;
  int64_t slots;
  std::span<const int32_t> query_start, context_lengths, block_tables;
  int64_t max_blocks, block_size, heads, kv_heads, dim;
  float scale;

  int64_t group() const { return heads / kv_heads; }
  int64_t queries(int64_t s) const { return query_start[s + 1] - query_start[s]; }
  int64_t slot(int64_t s, int64_t position) const {
    return int64_t{block_tables[s * max_blocks + position / block_size]} * block_size + position % block_size;
  }
};

/// The key, or value, of a head at a slot, which T holds, for arithmetic in To.
template <typename T, typename To>
void Gather(const Pages& pages, const Tensor& cache, int64_t slot, int64_t kv_head, To* to) {
  const int64_t dim = pages.dim;
  if (cache.dtype == DType::kFloat8) {
    const int64_t row = kv_head * pages.slots + slot;
    const Float8* const from = cache.row<Float8>(row);
    const float scale = cache.scales()[row];
    for (int64_t i = 0; i < dim; ++i) to[i] = FromFloat<To>(Rounded<T>(ToFloat(from[i]) * scale));
  } else if constexpr (std::is_same_v<T, To>) {
    std::copy_n(cache.row<T>(slot) + kv_head * dim, dim, to);
  } else {
    Widen(cache.row<T>(slot) + kv_head * dim, to, dim);
  }
}

/// One piece of work: query rows [first, first + count) of a sequence for one key head.
struct Piece {
  int64_t sequence, kv_head, first, count;
};

template <typename T>
void AttendTile(const Pages& pages, const Piece& piece, float* memory) {
  const int64_t dim = pages.dim, group = pages.group(), rows = piece.count * group;
  const int64_t first_row = pages.query_start[piece.sequence] + piece.first;
  // The position of the piece's first query.
  const int64_t position =
      pages.context_lengths[piece.sequence] - pages.queries(piece.sequence) + piece.first;
  float* q = memory;  // [count * group, dim], the heads of a row together
  float* k = q + kTileQueries * group * dim;
  float* v = k + kTileKeys * dim;
  SoftmaxTile tile(v + kTileKeys * dim, kTileQueries * group, kTileKeys, dim);
  tile.Reset(rows, dim);
  for (int64_t i = 0; i < piece.count; ++i) {
    Widen(pages.qkv.row<T>(first_row + i) + piece.kv_head * group * dim, q + i * group * dim, group * dim);
  }
  const int64_t end = position + piece.count;
  for (int64_t start = 0; start < end; start += kTileKeys) {
    const int64_t keys = std::min(kTileKeys, end - start);
    for (int64_t i = 0; i < keys; ++i) {
      const int64_t slot = pages.slot(piece.sequence, start + i);
      Gather<T>(pages, pages.k_cache, slot, piece.kv_head, k + i * dim);
      Gather<T>(pages, pages.v_cache, slot, piece.kv_head, v + i * dim);
    }
    tile.Add(q, dim, rows, k, v, dim, keys, dim, pages.scale,
             [&](int64_t row) { return position + row / group + 1 - start; });
  }
  tile.Finish(rows, dim);
  for (int64_t i = 0; i < piece.count; ++i) {
    Narrow(tile.output + i * group * dim, pages.out.row<T>(first_row + i) + piece.kv_head * group * dim,
           group * dim);
  }
}

/// The same in bfloat16 pairs.
void AttendTileInPairs(const Pages& pages, const Piece& piece, float* memory) {
  const int64_t dim = pages.dim, group = pages.group(), rows = piece.count * group;
  const int64_t first_row = pages.query_start[piece.sequence] + piece.first;
  const int64_t position =
      pages.context_lengths[piece.sequence] - pages.queries(piece.sequence) + piece.first;
  BFloat16* q = reinterpret_cast<BFloat16*>(memory);  // [count * group, dim], the heads of a row together
  BFloat16* k = q + kTileQueries * group * dim;
  BFloat16* v = k + kTileKeys * dim;
  float* const rest = memory + (kTileQueries * group / 2 + kTileKeys) * dim;
  SoftmaxTile tile(rest, kTileQueries * group, kTileKeys, dim);
  const PairedFactors factors(rest + SoftmaxTile::Floats(kTileQueries * group, kTileKeys, dim), kTileKeys,
                              dim);
  tile.Reset(rows, dim);
  const auto row_bytes = static_cast<size_t>(dim) * sizeof(BFloat16);
  for (int64_t i = 0; i < piece.count; ++i) {
    std::memcpy(q + i * group * dim, pages.qkv.row<BFloat16>(first_row + i) + piece.kv_head * group * dim,
                static_cast<size_t>(group) * row_bytes);
  }
  const int64_t end = position + piece.count;
  for (int64_t start = 0; start < end; start += kTileKeys) {
    const int64_t keys = std::min(kTileKeys, end - start);
    for (int64_t i = 0; i < keys; ++i) {
      const int64_t slot = pages.slot(piece.sequence, start + i);
      Gather<BFloat16>(pages, pages.k_cache, slot, piece.kv_head, k + i * dim);
      Gather<BFloat16>(pages, pages.v_cache, slot, piece.kv_head, v + i * dim);
    }
    tile.AddPairs(factors, q, dim, rows, k, v, dim, keys, dim, pages.scale,
                  [&](int64_t row) { return position + row / group + 1 - start; });
  }
  tile.Finish(rows, dim);
  for (int64_t i = 0; i < piece.count; ++i) {
    Narrow(tile.output + i * group * dim,
           pages.out.row<BFloat16>(first_row + i) + piece.kv_head * group * dim, group * dim);
  }
}

int64_t TileFloats(const Pages& pages) {
  const int64_t rows = kTileQueries * pages.group();
  return rows * pages.dim + 2 * kTileKeys * pages.dim + SoftmaxTile::Floats(rows, kTileKeys, pages.dim) +
         PairedFactors::Floats(rows, kTileKeys, pages.dim);
}

/// Calls f(slot of the first key, offset from `start`, count) for the runs of [start, start + keys) that lie
/// together in a block.
template <typename F>
void ForRuns(const Pages& pages, int64_t sequence, int64_t start, int64_t keys, F&& f) {
  for (int64_t offset = 0; offset < keys;) {
    const int64_t position = start + offset;
    const int64_t count = std::min(keys - offset, pages.block_size - position % pages.block_size);
    f(pages.slot(sequence, position), offset, count);
    offset += count;
  }
}

template <typename T>
void AttendRow(const Pages& pages, const Piece& piece, int64_t query, float* memory) {
  const int64_t dim = pages.dim, group = pages.group(), column = piece.kv_head * dim,
                stride = pages.k_cache.cols();
  const int64_t row = pages.query_start[piece.sequence] + query;
  const int64_t length = pages.context_lengths[piece.sequence] - pages.queries(piece.sequence) + query + 1;
  float* q = memory;  // [group, dim], scaled
  SoftmaxTile tile(q + group * dim, group, kDecodeKeys, dim);
  tile.Reset(group, dim);
  Widen(pages.qkv.row<T>(row) + piece.kv_head * group * dim, q, group * dim);
  AffineRow(pages.scale, 0.0f, q, group * dim);
  for (int64_t start = 0; start < length; start += kDecodeKeys) {
    const int64_t keys = std::min(kDecodeKeys, length - start);
    ForRuns(pages, piece.sequence, start, keys, [&](int64_t slot, int64_t offset, int64_t count) {
      DotRows(q, group, dim, pages.k_cache.row<T>(slot) + column, stride, count, tile.scores + offset, keys);
    });
    for (int64_t g = 0; g < group; ++g) tile.Absorb(g, keys, keys, dim);
    ForRuns(pages, piece.sequence, start, keys, [&](int64_t slot, int64_t offset, int64_t count) {
      MixRows(tile.scores + offset, group, keys, pages.v_cache.row<T>(slot) + column, stride, count, dim,
              tile.output);
    });
  }
  tile.Finish(group, dim);
  Narrow(tile.output, pages.out.row<T>(row) + piece.kv_head * group * dim, group * dim);
}

/// The same with the processor's own products of bfloat16 pairs: weights are rounded to bfloat16 before they
/// meet the values, as the published model's attention does.
void AttendRowInPairs(const Pages& pages, const Piece& piece, int64_t query, float* memory) {
  const int64_t dim = pages.dim, group = pages.group(), column = piece.kv_head * dim,
                stride = pages.k_cache.cols();
  const int64_t row = pages.query_start[piece.sequence] + query;
  const int64_t length = pages.context_lengths[piece.sequence] - pages.queries(piece.sequence) + query + 1;
  const BFloat16* q = pages.qkv.row<BFloat16>(row) + piece.kv_head * group * dim;  // [group, dim]
  BFloat16* weights = reinterpret_cast<BFloat16*>(memory);                         // [group, kDecodeKeys]
  SoftmaxTile tile(memory + group * kDecodeKeys / 2, group, kDecodeKeys, dim);
  tile.Reset(group, dim);
  for (int64_t start = 0; start < length; start += kDecodeKeys) {
    const int64_t keys = std::min(kDecodeKeys, length - start);
    ForRuns(pages, piece.sequence, start, keys, [&](int64_t slot, int64_t offset, int64_t count) {
      PairRows(q, group, dim, pages.k_cache.row<BFloat16>(slot) + column, stride, count, tile.scores + offset,
               keys);
    });
    AffineRow(pages.scale, 0.0f, tile.scores, group * keys);
    for (int64_t g = 0; g < group; ++g) {
      tile.Absorb(g, keys, keys, dim);
      Narrow(tile.scores + g * keys, weights + g * kDecodeKeys, keys);
    }
    ForRuns(pages, piece.sequence, start, keys, [&](int64_t slot, int64_t offset, int64_t count) {
      PairMix(weights + offset, group, kDecodeKeys, pages.v_cache.row<BFloat16>(slot) + column, stride, count,
              dim, tile.output);
    });
  }
  tile.Finish(group, dim);
  Narrow(tile.output, pages.out.row<BFloat16>(row) + piece.kv_head * group * dim, group * dim);
}

/// The same by tiles.
void AttendRowInTiles(const Pages& pages, const Piece& piece, int64_t query, float* memory) {
  const int64_t dim = pages.dim, group = pages.group(), column = piece.kv_head * dim;
  const int64_t row = pages.query_start[piece.sequence] + query;
  const PagedRows rows{.keys = pages.k_cache.as<BFloat16>() + column,
                       .values = pages.v_cache.as<BFloat16>() + column,
                       .stride = pages.k_cache.cols(),
                       .blocks = pages.block_tables.data() + piece.sequence * pages.max_blocks,
                       .block_size = pages.block_size};
  const int64_t length = pages.context_lengths[piece.sequence] - pages.queries(piece.sequence) + query + 1;
  const float* const attention = TileDecode(pages.qkv.row<BFloat16>(row) + piece.kv_head * group * dim, group,
                                            dim, rows, length, pages.scale, memory);
  Narrow(attention, pages.out.row<BFloat16>(row) + piece.kv_head * group * dim, group * dim);
}

int64_t RowFloats(const Pages& pages) {
  return std::max(pages.group() * std::max(pages.dim, kDecodeKeys / 2) +
                      SoftmaxTile::Floats(pages.group(), kDecodeKeys, pages.dim),
                  TileDecodeFloats(pages.dim));
}

std::vector<Piece> Cut(const Pages& pages) {
  std::vector<Piece> pieces;
  for (int64_t s = 0; s < static_cast<int64_t>(pages.context_lengths.size()); ++s) {
    for (int64_t first = 0; first < pages.queries(s); first += kTileQueries) {
      const int64_t count = std::min(kTileQueries, pages.queries(s) - first);
      for (int64_t head = 0; head < pages.kv_heads; ++head) pieces.push_back({s, head, first, count});
    }
  }
  return pieces;
}

}  // namespace

void CpuBackend::PagedAttention(const Tensor& qkv, const PagedCache& cache, const PagedSequences& sequences,
                                const HeadShape& heads, float scale, const Tensor& out) {
  const Pages pages{.qkv = qkv,
                    .k_cache = cache.k,
                    .v_cache = cache.v,
                    .out = out,
                    .slots = cache.slots,
                    .query_start = sequences.query_start.values,
                    .context_lengths = sequences.context_lengths.values,
                    .block_tables = sequences.block_tables.values,
                    .max_blocks = sequences.max_blocks,
                    .block_size = cache.block_size,
                    .heads = heads.heads,
                    .kv_heads = heads.kv_heads,
                    .dim = heads.dim,
                    .scale = scale};
  const std::vector<Piece> pieces = Cut(pages);
  int64_t work = 0;
  for (const Piece& piece : pieces) work += pages.context_lengths[piece.sequence] * piece.count * pages.dim;
  Scratch scratch(arena());
  const int64_t per_thread = std::max(TileFloats(pages), RowFloats(pages));
  float* memory = scratch.Get<float>(MaxThreads() * per_thread);
  const bool in_pairs = pages.qkv.dtype == DType::kBFloat16 && HasPairRows() && pages.dim % kMixWidth == 0 &&
                        pages.dim % kPairLength == 0;
  const bool in_tiles = in_pairs && HasTileDecode(pages.group(), pages.dim, pages.block_size);
  WithElement(pages.qkv.dtype, [&]<typename T>(T*) {
    ParallelForUneven(static_cast<int64_t>(pieces.size()), work, [&](int64_t index, int thread) {
      const Piece& piece = pieces[static_cast<size_t>(index)];
      float* mine = memory + thread * per_thread;
      if (piece.count > kDecodeQueries || cache.float8()) {
        return in_pairs ? AttendTileInPairs(pages, piece, mine) : AttendTile<T>(pages, piece, mine);
      }
      for (int64_t i = 0; i < piece.count; ++i) {
        if (in_tiles) {
          AttendRowInTiles(pages, piece, piece.first + i, mine);
        } else if (in_pairs) {
          AttendRowInPairs(pages, piece, piece.first + i, mine);
        } else {
          AttendRow<T>(pages, piece, piece.first + i, mine);
        }
      }
    });
  });
}

}  // namespace internvl
