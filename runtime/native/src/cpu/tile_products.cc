// A weight lies row by row, which is the order in which a tile takes its first factor: 16 rows of 32 elements.
// So the weight is the first factor and its tiles are read from where it is, each once; the rows of x are put
// in pairs, the order of the second one, and what comes out is the product's transpose.
#include "tile_products.h"

#include <algorithm>
#include <type_traits>

#include "pair_tiles.h"
#include "parallel.h"
#include "quantized_rows.h"
#include "tiles.h"
#include "transpose.h"

namespace internvl {

#if defined(__x86_64__)
namespace {

constexpr int64_t kStrip = 16;  // rows of x in a tile
constexpr int64_t kDepth = 32;  // elements of K in a tile
constexpr int64_t kPanel = 32;  // weight rows done together: two tiles
/// Rows of x that the weight meets at a time, and their elements that a core keeps in its second cache.
constexpr int64_t kMostStrips = 33;
constexpr int64_t kNear = 512 << 10;
/// Elements of a weight row that are copied, or widened, at a time.
constexpr int64_t kMostCopied = 1024;
/// Weight rows whose unfinished sums a thread keeps.
constexpr int64_t kMostPanels = 64;

constexpr int64_t RoundUp(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

/// sums [kPanel][16 kStrips] = or += kPanel weight rows times kStrips strips of x in pairs. depth is a multiple
/// of kDepth.
template <int kStrips>
TILE_TARGET void Block(const BFloat16* w, int64_t w_stride, const BFloat16* pairs, int64_t strip_stride,
                       int64_t depth, float* sums, bool add) {
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

/// Where a panel's products end: up to kPanel columns of out from `column` on.
struct Columns {
  const float* scales;  // null: none
  const float* bias;    // null: none
  int64_t column, count;
};

template <typename T>
TILE_INLINE void Store(__m512 first, __m512 second, const Columns& columns, T* to) {
  const auto mask = static_cast<__mmask32>((uint64_t{1} << columns.count) - 1);
  if constexpr (std::is_same_v<T, float>) {
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>(mask), first);
    _mm512_mask_storeu_ps(to + 16, static_cast<__mmask16>(mask >> 16), second);
  } else {
    _mm512_mask_storeu_epi16(to, mask, (__m512i)_mm512_cvtne2ps_pbh(second, first));
  }
}

/// Turns one strip of sums [kPanel][.] (sum_stride between weight rows) into `rows` rows of out.
template <typename T>
TILE_TARGET void FinishStrip(const float* sums, int64_t sum_stride, const Columns& columns, int64_t rows,
                             T* out, int64_t out_stride) {
  __m512i products[2][16];
  for (int half = 0; half < 2; ++half) {
    __m512i by_weight[16];
    for (int n = 0; n < 16; ++n)
      by_weight[n] = _mm512_loadu_si512(sums + (half * kStrip + n) * sum_stride);
    Transpose(by_weight, products[half]);
  }
  const auto mask = static_cast<__mmask32>((uint64_t{1} << columns.count) - 1);
  const auto low = static_cast<__mmask16>(mask), high = static_cast<__mmask16>(mask >> 16);
  const __m512 one = _mm512_set1_ps(1.0f), zero = _mm512_setzero_ps();
  __m512 scale[2] = {one, one}, bias[2] = {zero, zero};
  if (columns.scales != nullptr) {
    scale[0] = _mm512_maskz_loadu_ps(low, columns.scales + columns.column);
    scale[1] = _mm512_maskz_loadu_ps(high, columns.scales + columns.column + 16);
  }
  if (columns.bias != nullptr) {
    bias[0] = _mm512_maskz_loadu_ps(low, columns.bias + columns.column);
    bias[1] = _mm512_maskz_loadu_ps(high, columns.bias + columns.column + 16);
  }
  for (int64_t r = 0; r < rows; ++r) {
    __m512 value[2];
    for (int half = 0; half < 2; ++half) {
      value[half] = _mm512_castsi512_ps(products[half][r]);
      // Not fused: a scaled sum is rounded before the bias meets it, as elsewhere.
      if (columns.scales != nullptr) value[half] = _mm512_mul_ps(value[half], scale[half]);
      if (columns.bias != nullptr) value[half] = _mm512_add_ps(value[half], bias[half]);
    }
    Store(value[0], value[1], columns, out + r * out_stride + columns.column);
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
        if (wide == 2) {
          Block<2>(w, stride, pairs, kStrip * chunk.depth, depth, sums, start > 0);
        } else {
          Block<1>(w, stride, pairs, kStrip * chunk.depth, depth, sums, start > 0);
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
