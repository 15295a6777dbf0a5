// An int8 weight is multiplied as it lies: tiles multiply bytes, and reading is all that a product of few
// rows takes. A row of x becomes whole numbers for that, of 23 bits at its own power of two, hence as exact
// as float32 sums of it; each is three digits of a byte, with a product for each, put together at the end.
#include "digit_products.h"

#include <algorithm>
#include <cstring>

#include "digits.h"
#include "parallel.h"
#include "tile_finish.h"

namespace internvl {

#if defined(__x86_64__)
namespace {

constexpr int64_t kDepth = 64;  // elements of K in a tile
/// Panels of rows of up to so many bytes are called into the second cache ahead, as the stretch of memory
/// that they are: too little of a row is read for the processor to foresee the next.
constexpr int64_t kShort = 2048;

/// kDepth elements of up to kStrip rows as a tile of each digit, `apart` bytes from one digit's to the
/// next's.
TILE_TARGET void TilesOfDigits(const BFloat16* x, int64_t stride, int64_t rows, int64_t length,
                               const RowScale* scales, int8_t* to, int64_t apart) {
  __m512i digits[kDigits][16];
  for (int64_t r = 0; r < kStrip; ++r) {
    alignas(64) int8_t bytes[kDigits][kDepth] = {};
    if (r < rows) DigitsOf(x + r * stride, length, scales[r].to, bytes[0], kDepth);
    for (int d = 0; d < kDigits; ++d) digits[d][r] = _mm512_load_si512(bytes[d]);
  }
  for (int d = 0; d < kDigits; ++d) {
    __m512i fours[16];
    Transpose(digits[d], fours);
    for (int j = 0; j < 16; ++j) _mm512_storeu_si512(to + d * apart + j * 64, fours[j]);
  }
}

/// sums [kDigits][kPanel][kStrip] of kPanel weight rows and a strip.
TILE_TARGET void Block(const int8_t* w, int64_t w_stride, const int8_t* strip, int64_t apart, int64_t depth,
                       const int8_t* foreseen, int32_t* sums) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  for (int64_t i = 0; i < depth; i += kDepth) {
    if (foreseen != nullptr) {
      for (int64_t line = 0; line < kPanel; ++line)
        _mm_prefetch(foreseen + i * kPanel + line * 64, _MM_HINT_T1);
    }
    const int8_t* const low = strip + i * kStrip;
    _tile_loadd(6, w + i, w_stride);
    _tile_loadd(7, low, 64);
    _tile_dpbssd(0, 6, 7);
    _tile_loadd(7, low + apart, 64);
    _tile_dpbssd(2, 6, 7);
    _tile_loadd(7, low + 2 * apart, 64);
    _tile_dpbssd(4, 6, 7);
    _tile_loadd(6, w + kStrip * w_stride + i, w_stride);
    _tile_dpbssd(5, 6, 7);
    _tile_loadd(7, low + apart, 64);
    _tile_dpbssd(3, 6, 7);
    _tile_loadd(7, low, 64);
    _tile_dpbssd(1, 6, 7);
  }
  constexpr int64_t kSquare = kStrip * kStrip;
  _tile_stored(0, sums, 64);
  _tile_stored(1, sums + kSquare, 64);
  _tile_stored(2, sums + 2 * kSquare, 64);
  _tile_stored(3, sums + 3 * kSquare, 64);
  _tile_stored(4, sums + 4 * kSquare, 64);
  _tile_stored(5, sums + 5 * kSquare, 64);
}

/// Puts the digits' sums together: products [kPanel][kStrip].
TILE_TARGET void Join(const int32_t* sums, const RowScale* scales, float* products) {
  alignas(64) float from[kStrip];
  for (int64_t r = 0; r < kStrip; ++r) from[r] = scales[r].from;
  const __m512 scale = _mm512_load_ps(from);
  constexpr int64_t kApart = kPanel * kStrip;
  for (int64_t n = 0; n < kPanel; ++n) {
    const int32_t* const at = sums + n * kStrip;
    const __m512i of[kDigits] = {_mm512_load_si512(at), _mm512_load_si512(at + kApart),
                                 _mm512_load_si512(at + 2 * kApart)};
    const __m512 sum = Joined(of);
    _mm512_store_ps(products + n * kStrip, _mm512_mul_ps(sum, scale));
  }
}

/// What all threads share.
struct Factors {
  const Tensor& x;
  const Tensor& weight;
  const float* bias;
  int8_t* digits;    // [strips][kDigits][depth / 4][kStrip][4]
  RowScale* scales;  // [strips * kStrip]
  int64_t depth, strips;

  int64_t apart() const { return kStrip * depth; }
};

template <typename T>
TILE_TARGET void Panel(const Factors& factors, int64_t panel, int8_t* copy, const Tensor& out) {
  const int64_t k = factors.weight.cols(), first = panel * kPanel;
  const int64_t count = std::min(kPanel, factors.weight.rows() - first);
  const int8_t* w = factors.weight.row<int8_t>(first);
  int64_t stride = k;
  if (count < kPanel || k < factors.depth) {
    std::memset(copy, 0, static_cast<size_t>(kPanel * factors.depth));
    for (int64_t n = 0; n < count; ++n) std::copy_n(w + n * k, k, copy + n * factors.depth);
    w = copy, stride = factors.depth;
    TileFence();
  }
  const Columns columns{
      .scales = factors.weight.scales(), .bias = factors.bias, .column = first, .count = count};
  alignas(64) int32_t sums[kDigits * kPanel * kStrip];
  alignas(64) float products[kPanel * kStrip];
  for (int64_t s = 0; s < factors.strips; ++s) {
    Block(w, stride, factors.digits + s * kDigits * factors.apart(), factors.apart(), factors.depth,
          s == 0 && stride <= kShort ? w + kPanel * stride : nullptr, sums);
    Join(sums, factors.scales + s * kStrip, products);
    FinishStrip(products, kStrip, columns, std::min(kStrip, out.rows() - s * kStrip), out.row<T>(s * kStrip),
                out.cols());
  }
}

}  // namespace

void DigitProducts(const Tensor& x, const Tensor& weight, const float* bias, const Tensor& out,
                   Arena& arena) {
  const int64_t rows = x.rows(), k = x.cols(), n = weight.rows();
  const int64_t depth = RoundUp(k, kDepth), strips = (rows + kStrip - 1) / kStrip;
  const int64_t panels = (n + kPanel - 1) / kPanel;
  Scratch scratch(arena);
  const Factors factors{.x = x,
                        .weight = weight,
                        .bias = bias,
                        .digits = scratch.Get<int8_t>(strips * kDigits * kStrip * depth),
                        .scales = scratch.Get<RowScale>(strips * kStrip),
                        .depth = depth,
                        .strips = strips};
  int8_t* const copies = scratch.Get<int8_t>(MaxThreads() * kPanel * depth);
  std::fill_n(factors.scales, strips * kStrip, RowScale{});
  ParallelRegion(n * k, [&](int thread, int team) {
    for (int64_t r = thread; r < rows; r += team) factors.scales[r] = ScaleOf(x.row<BFloat16>(r), k);
    TeamBarrier();
    const int64_t steps = depth / kDepth;
    for (int64_t item = thread; item < strips * steps; item += team) {
      const int64_t strip = item / steps, i = item % steps * kDepth;
      TilesOfDigits(x.row<BFloat16>(strip * kStrip) + i, k, std::min(kStrip, rows - strip * kStrip),
                    std::min(kDepth, k - i), factors.scales + strip * kStrip,
                    factors.digits + strip * kDigits * factors.apart() + i * kStrip, factors.apart());
    }
    TeamBarrier();
    const TileUse tiles;
    WithElement(out.dtype, [&]<typename T>(T*) {
      for (int64_t p = panels * thread / team; p < panels * (thread + 1) / team; ++p) {
        Panel<T>(factors, p, copies + thread * kPanel * depth, out);
      }
    });
  });
}

#else

void DigitProducts(const Tensor&, const Tensor&, const float*, const Tensor&, Arena&) {}

#endif

}  // namespace internvl
