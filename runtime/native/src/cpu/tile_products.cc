// A weight lies row by row, which is the order in which a tile takes its first factor: 16 rows of 32
// elements. So the weight is the first factor and its tiles are read from where it is, each once; the rows of
// x are put in pairs, the order of the second one, and what comes out is the product's transpose.
#include "tile_products.h"

#include <algorithm>
#include <type_traits>

#include "pair_tiles.h"
#include "parallel.h"
#include "quantized_rows.h"
#include "tile_finish.h"
#include "tiles.h"

namespace internvl {

#if defined(__x86_64__)
namespace {

constexpr int64_t kDepth = 32;  // elements of K in a tile
/// Rows of x that the weight meets at a time, and their elements that a core keeps in its second cache.
constexpr int64_t kMostStrips = 33;
constexpr int64_t kNear = 512 << 10;
/// From here on the panel to come is called into the cache while one is multiplied.
constexpr int64_t kManyStrips = 8;
/// Elements of a weight row that are copied, or widened, at a time.
constexpr int64_t kMostCopied = 1024;
/// Weight rows whose unfinished sums a thread keeps.
constexpr int64_t kMostPanels = 64;

/// What a block calls into the second cache while it multiplies: `count` of the rows of the panel to come.
struct Ahead {
  const BFloat16* from = nullptr;
  int64_t stride = 0, count = 0;
};

/// sums [kPanel][16 kStrips] = or += kPanel weight rows times kStrips strips of x in pairs. depth is a
/// multiple of kDepth.
template <int kStrips>
TILE_TARGET void Block(const BFloat16* w, int64_t w_stride, const BFloat16* pairs, int64_t strip_stride,
                       int64_t depth, float* sums, bool add, const Ahead& ahead) {
  constexpr int64_t kRowBytes = kStrips * 64;
  const int64_t w_bytes = w_stride * static_cast<int64_t>(sizeof(BFloat16));
  if (add) {
    _tile_loadd(0, sums, kRowBytes);
    _tile_loadd(1, sums + kStrip * kStrips * kStrip, kRowBytes);
    if constexpr (kStrips == 2) {
      _tile_loadd(2, sums + kStrip, kRowBytes);
      _tile_loadd(3, sums + kStrip * kStrips * kStrip + kStrip, kRowBytes);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (kStrips == 2) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }
  for (int64_t i = 0; i < depth; i += kDepth) {
    for (int64_t r = 0; r < ahead.count; ++r) {
      _mm_prefetch(reinterpret_cast<const char*>(ahead.from + r * ahead.stride + i), _MM_HINT_T1);
    }
    _tile_loadd(4, w + i, w_bytes);
    _tile_loadd(6, pairs + i * kStrip, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, w + kStrip * w_stride + i, w_bytes);
    _tile_dpbf16ps(1, 5, 6);
    if constexpr (kStrips == 2) {
      _tile_loadd(7, pairs + strip_stride + i * kStrip, 64);
      _tile_dpbf16ps(2, 4, 7);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, sums, kRowBytes);
  _tile_stored(1, sums + kStrip * kStrips * kStrip, kRowBytes);
  if constexpr (kStrips == 2) {
    _tile_stored(2, sums + kStrip, kRowBytes);
    _tile_stored(3, sums + kStrip * kStrips * kStrip + kStrip, kRowBytes);
  }
}

/// The weight rows of a panel, and zeros around them, where a tile cannot take them from where they lie.
template <typename W>
void CopyPanel(const W* w, int64_t w_stride, int64_t count, int64_t length, BFloat16* panel,
               int64_t panel_stride) {
  for (int64_t n = 0; n < kPanel; ++n) {
    BFloat16* const row = panel + n * panel_stride;
    const int64_t filled = n < count ? length : 0;
    if constexpr (std::is_same_v<W, BFloat16>) {
      std::copy_n(w + n * w_stride, filled, row);
    } else if (filled > 0) {
      Widen(w + n * w_stride, row, filled);
    }
    std::fill(row + filled, row + RoundUp(length, kDepth), BFloat16{});
  }
}

/// Some strips of x and their products with all weights.
template <typename W>
struct Chunk {
  const W* weight;      // [n, k]
  BFloat16* pairs;      // [strips][depth / 2][16][2]
  int64_t first, rows;  // of x
  int64_t strips, n, k, depth;
  int64_t part;  // of k, done at a time

  bool in_parts() const { return part < depth; }
};

/// Panels [begin, end), which are a thread's own; `unfinished` are their sums while parts of k are to come.
template <typename W, typename T>
TILE_TARGET void Panels(const Chunk<W>& chunk, const float* scales, const float* bias, const Tensor& out,
                        int64_t begin, int64_t end, float* unfinished, BFloat16* copy) {
  alignas(64) float now[kPanel * 2 * kStrip];
  const int64_t copy_stride = chunk.part + kDepth;  // not a multiple of a page
  for (int64_t start = 0; start < chunk.depth; start += chunk.part) {
    const int64_t depth = std::min(chunk.part, chunk.depth - start);
    const int64_t length = std::min(depth, chunk.k - start);
    const bool last = start + depth == chunk.depth;
    for (int64_t p = begin; p < end; ++p) {
      const int64_t count = std::min(kPanel, chunk.n - p * kPanel);
      const W* const at = chunk.weight + p * kPanel * chunk.k + start;
      const BFloat16* w = copy;
      int64_t stride = copy_stride;
      if constexpr (std::is_same_v<W, BFloat16>) {
        if (count == kPanel && length == depth) w = at, stride = chunk.k;
      }
      if (w == copy) {
        CopyPanel(at, chunk.k, count, length, copy, copy_stride);
        TileFence();
      }
      const Columns columns{.scales = scales, .bias = bias, .column = p * kPanel, .count = count};
      for (int64_t s = 0; s < chunk.strips; s += 2) {
        const int64_t wide = std::min<int64_t>(2, chunk.strips - s);
        float* const sums =
            chunk.in_parts() ? unfinished + ((p - begin) * chunk.strips + s) * kPanel * kStrip : now;
        const BFloat16* const pairs = chunk.pairs + s * kStrip * chunk.depth + start * kStrip;
        Ahead ahead;
        if constexpr (std::is_same_v<W, BFloat16>) {
          if (chunk.strips >= kManyStrips && p + 1 < end) {
            const int64_t row = kPanel * s / chunk.strips;
            ahead = {.from = at + (kPanel + row) * chunk.k,
                     .stride = chunk.k,
                     .count = kPanel * (s + wide) / chunk.strips - row};
          }
        }
        if (last) {
          for (int64_t r = 0; r < std::min(wide * kStrip, chunk.rows - s * kStrip); ++r) {
            __builtin_prefetch(out.row<T>(chunk.first + s * kStrip + r) + columns.column, 1, 3);
          }
        }
        if (wide == 2) {
          Block<2>(w, stride, pairs, kStrip * chunk.depth, depth, sums, start > 0, ahead);
        } else {
          Block<1>(w, stride, pairs, kStrip * chunk.depth, depth, sums, start > 0, ahead);
        }
        if (!last) continue;
        for (int64_t half = 0; half < wide; ++half) {
          const int64_t row = (s + half) * kStrip;
          FinishStrip(sums + half * kStrip, wide * kStrip, columns, std::min(kStrip, chunk.rows - row),
                      out.row<T>(chunk.first + row), out.cols());
        }
      }
    }
  }
}

template <typename W, typename T>
void Products(const Tensor& x, const Tensor& weight, const float* bias, const Tensor& out, Arena& arena) {
  const int64_t rows = x.rows(), k = x.cols(), n = out.cols();
  const int64_t depth = RoundUp(k, kDepth), strips = (rows + kStrip - 1) / kStrip;
  const int64_t chunks = (strips + kMostStrips - 1) / kMostStrips, most = (strips + chunks - 1) / chunks;
  const bool copied = !std::is_same_v<W, BFloat16> || k % kDepth != 0;
  const int64_t near = std::min(kNear / (most * kStrip), copied ? kMostCopied : depth);
  const int64_t parts = (depth + near - 1) / near;
  const int64_t part = RoundUp((depth + parts - 1) / parts, kDepth);
  const int64_t panels = (n + kPanel - 1) / kPanel, threads = MaxThreads();
  Scratch scratch(arena);
  BFloat16* const pairs = scratch.Get<BFloat16>(most * kStrip * depth);
  BFloat16* const copies = scratch.Get<BFloat16>(threads * kPanel * (part + kDepth));
  float* const unfinished =
      parts > 1 ? scratch.Get<float>(threads * kMostPanels * kPanel * most * kStrip) : nullptr;
  const float* const scales = IsQuantized(weight.dtype) ? weight.scales() : nullptr;
  for (int64_t c = 0; c < chunks; ++c) {
    const int64_t first = strips * c / chunks, count = strips * (c + 1) / chunks - first;
    const Chunk<W> chunk{.weight = weight.as<W>(),
                         .pairs = pairs,
                         .first = first * kStrip,
                         .rows = std::min(count * kStrip, rows - first * kStrip),
                         .strips = count,
                         .n = n,
                         .k = k,
                         .depth = depth,
                         .part = part};
    const int64_t pieces = (depth + kMostCopied - 1) / kMostCopied;
    ParallelRegion(n * k * count, [&](int thread, int team) {
      for (int64_t item = thread; item < count * pieces; item += team) {
        const int64_t strip = item / pieces, start = item % pieces * kMostCopied;
        PairsOfColumns(x.row<BFloat16>(chunk.first + strip * kStrip) + start, k,
                       std::min(kStrip, chunk.rows - strip * kStrip), std::min(kMostCopied, k - start),
                       pairs + strip * kStrip * depth + start * kStrip, kStrip);
      }
      TeamBarrier();
      const TileUse tiles;
      const int64_t begin = panels * thread / team, end = panels * (thread + 1) / team;
      for (int64_t p = begin; p < end; p += kMostPanels) {
        Panels<W, T>(chunk, scales, bias, out, p, std::min(p + kMostPanels, end),
                     unfinished + thread * kMostPanels * kPanel * most * kStrip,
                     copies + thread * kPanel * (part + kDepth));
      }
    });
  }
}

}  // namespace

void TileProducts(const Tensor& x, const Tensor& weight, const float* bias, const Tensor& out, Arena& arena) {
  WithWeight(weight.dtype, [&]<typename W>(W*) {
    if constexpr (!std::is_same_v<W, float>) {
      WithElement(out.dtype, [&]<typename T>(T*) { Products<W, T>(x, weight, bias, out, arena); });
    }
  });
}

#else

void TileProducts(const Tensor&, const Tensor&, const float*, const Tensor&, Arena&) {}

#endif

}  // namespace internvl
