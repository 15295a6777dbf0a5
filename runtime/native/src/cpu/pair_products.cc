#include "pair_products.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "cpu.h"
#include "pair_target.h"
#include "row_products.h"
#include "row_sums.h"

namespace internvl {

#if defined(__x86_64__)
namespace {

constexpr int64_t kLanes = 32;  // elements of one vector
constexpr int kMostRows = 8;

PAIR_INLINE __m512bh Load(const BFloat16* from) { return (__m512bh)_mm512_loadu_si512(from); }

PAIR_INLINE __m512bh LoadFirst(const BFloat16* from, __mmask32 first) {
  return (__m512bh)_mm512_maskz_loadu_epi16(first, from);
}

PAIR_INLINE __m512bh Widened(__m256i whole) {
  const __m512 low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(whole)));
  const __m512 high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(whole, 1)));
  return _mm512_cvtne2ps_pbh(high, low);
}
PAIR_INLINE __m512bh Load(const int8_t* from) {
  return Widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
PAIR_INLINE __m512bh LoadFirst(const int8_t* from, __mmask32 first) {
  return Widened(_mm256_maskz_loadu_epi8(first, from));
}

/// Products of kRows rows of x with kWeights rows of w: every vector that is loaded is used several times.
template <int kRows, int kWeights, typename W>
PAIR_TARGET void Block(const BFloat16* x, int64_t k, const W* w, int64_t w_stride, float* out,
                       int64_t out_stride) {
  __m512 sums[kRows][kWeights];
  for (int t = 0; t < kRows; ++t) {
    for (int n = 0; n < kWeights; ++n) sums[t][n] = _mm512_setzero_ps();
  }
  int64_t i = 0;
  for (; i + kLanes <= k; i += kLanes) {
    __m512bh factors[kWeights];
    for (int n = 0; n < kWeights; ++n) {
      factors[n] = Load(w + n * w_stride + i);
      // The processor foresees reads only up to the end of a page: the rows to come are called here.
      _mm_prefetch(reinterpret_cast<const char*>(w + (n + kWeights) * w_stride + i), _MM_HINT_T0);
    }
    for (int t = 0; t < kRows; ++t) {
      const __m512bh value = Load(x + t * k + i);
      for (int n = 0; n < kWeights; ++n) sums[t][n] = _mm512_dpbf16_ps(sums[t][n], value, factors[n]);
    }
  }
  if (i < k) {
    const auto first = static_cast<__mmask32>((uint64_t{1} << (k - i)) - 1);
    for (int n = 0; n < kWeights; ++n) {
      const __m512bh factor = LoadFirst(w + n * w_stride + i, first);
      for (int t = 0; t < kRows; ++t)
        sums[t][n] = _mm512_dpbf16_ps(sums[t][n], LoadFirst(x + t * k + i, first), factor);
    }
  }
  for (int t = 0; t < kRows; ++t) {
    StoreSums<kWeights>(sums[t], out + t * out_stride);
  }
}

/// Weight rows that a block of kRows takes together: as many sums as there are registers for, and as many
/// streams as memory answers at a time.
constexpr int Together(int rows) { return rows <= 2 ? 8 : rows <= 6 ? 4 : 3; }

template <int kRows, typename W>
PAIR_TARGET void Strip(const BFloat16* x, int64_t k, const W* w, int64_t w_stride, int64_t weights,
                       float* out, int64_t out_stride) {
  constexpr int kTogether = Together(kRows);
  for (; weights >= kTogether; weights -= kTogether, w += kTogether * w_stride, out += kTogether)
    Block<kRows, kTogether>(x, k, w, w_stride, out, out_stride);
  if (weights >= 4) {
    Block<kRows, 4>(x, k, w, w_stride, out, out_stride);
    weights -= 4, w += 4 * w_stride, out += 4;
  }
  if (weights == 3) Block<kRows, 3>(x, k, w, w_stride, out, out_stride);
  if (weights == 2) Block<kRows, 2>(x, k, w, w_stride, out, out_stride);
  if (weights == 1) Block<kRows, 1>(x, k, w, w_stride, out, out_stride);
}

template <typename W>
void Rows(const BFloat16* x, int64_t rows, int64_t k, const W* w, int64_t w_stride, int64_t weights,
          float* out, int64_t out_stride) {
  using StripFunction = void (*)(const BFloat16*, int64_t, const W*, int64_t, int64_t, float*, int64_t);
  constexpr StripFunction kStrips[kMostRows] = {Strip<1, W>, Strip<2, W>, Strip<3, W>, Strip<4, W>,
                                                Strip<5, W>, Strip<6, W>, Strip<7, W>, Strip<8, W>};
  const int64_t blocks = std::max<int64_t>((rows + kMostRows - 1) / kMostRows, 1);
  const int64_t most = (rows + blocks - 1) / blocks;
  const int64_t together = Together(static_cast<int>(most));
  for (int64_t n = 0; n < weights; n += together) {
    // The weights come from memory once; the rows of x stay in the cache.
    for (int64_t t = 0; t < rows; t += most) {
      const int64_t count = std::min(most, rows - t);
      kStrips[count - 1](x + t * k, k, w + n * w_stride, w_stride, std::min(together, weights - n),
                         out + t * out_stride + n, out_stride);
    }
  }
}

/// kMixWidth columns of kRows rows: the elements of two rows of v are put side by side, as their factors are.
template <int kRows>
PAIR_TARGET void MixBlock(const BFloat16* p, int64_t p_stride, const BFloat16* v, int64_t v_stride,
                          int64_t count, int64_t width, float* out) {
  const PairOrder order = InPairs();
  __m512 left[kRows], right[kRows];
  for (int t = 0; t < kRows; ++t) {
    left[t] = _mm512_loadu_ps(out + t * width);
    right[t] = _mm512_loadu_ps(out + t * width + 16);
  }
  for (int64_t i = 0; i < count; i += 2) {
    const BFloat16* first = v + i * v_stride;
    const __m512i even = _mm512_loadu_si512(first);
    const bool alone = i + 1 == count;
    const __m512i odd = alone ? _mm512_setzero_si512() : _mm512_loadu_si512(first + v_stride);
    const __m512bh l = (__m512bh)_mm512_permutex2var_epi16(even, order.low, odd);
    const __m512bh r = (__m512bh)_mm512_permutex2var_epi16(even, order.high, odd);
    for (int t = 0; t < kRows; ++t) {
      int32_t pair = p[t * p_stride + i].bits;
      if (!alone) std::memcpy(&pair, p + t * p_stride + i, sizeof(pair));
      const __m512bh factors = (__m512bh)_mm512_set1_epi32(pair);
      left[t] = _mm512_dpbf16_ps(left[t], factors, l);
      right[t] = _mm512_dpbf16_ps(right[t], factors, r);
    }
  }
  for (int t = 0; t < kRows; ++t) {
    _mm512_storeu_ps(out + t * width, left[t]);
    _mm512_storeu_ps(out + t * width + 16, right[t]);
  }
}

}  // namespace

bool HasPairRows() { return HasBFloat16Matmul(); }

void PairRows(const BFloat16* x, int64_t rows, int64_t k, const BFloat16* w, int64_t w_stride,
              int64_t weights, float* out, int64_t out_stride) {
  Rows(x, rows, k, w, w_stride, weights, out, out_stride);
}
void PairRows(const BFloat16* x, int64_t rows, int64_t k, const int8_t* w, int64_t w_stride, int64_t weights,
              float* out, int64_t out_stride) {
  Rows(x, rows, k, w, w_stride, weights, out, out_stride);
}

void PairMix(const BFloat16* p, int64_t rows, int64_t p_stride, const BFloat16* v, int64_t v_stride,
             int64_t count, int64_t width, float* out) {
  using BlockFunction =
      void (*)(const BFloat16*, int64_t, const BFloat16*, int64_t, int64_t, int64_t, float*);
  constexpr BlockFunction kBlocks[kMostRows] = {MixBlock<1>, MixBlock<2>, MixBlock<3>, MixBlock<4>,
                                                MixBlock<5>, MixBlock<6>, MixBlock<7>, MixBlock<8>};
  for (int64_t t = 0; t < rows; t += kMostRows) {
    const BlockFunction block = kBlocks[std::min<int64_t>(kMostRows, rows - t) - 1];
    for (int64_t j = 0; j < width; j += kMixWidth) {
      block(p + t * p_stride, p_stride, v + j, v_stride, count, width, out + t * width + j);
    }
  }
}

#else

bool HasPairRows() { return false; }
void PairMix(const BFloat16*, int64_t, int64_t, const BFloat16*, int64_t, int64_t, int64_t, float*) {}
void PairRows(const BFloat16*, int64_t, int64_t, const BFloat16*, int64_t, int64_t, float*, int64_t) {}
void PairRows(const BFloat16*, int64_t, int64_t, const int8_t*, int64_t, int64_t, float*, int64_t) {}

#endif

}  // namespace internvl
