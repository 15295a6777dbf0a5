#include "byte_products.h"

#include <algorithm>

#include "cpu.h"
#include "pair_target.h"
#include "row_sums.h"

#define BYTE_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni")))

namespace internvl {

#if defined(__x86_64__)
namespace {

constexpr int64_t kLanes = 64;  // elements of one vector
/// Weight rows that are called ahead.
constexpr int64_t kAhead = 8;

/// What a row's sums begin with: see Block.
struct Begin {
  __m512i of[kDigits];
};

/// Products of kRows rows of x with kWeights rows of w. The instruction multiplies bytes without a sign with
/// bytes that have one: a weight w is w + 128 to it, and the sums begin with what that is too much.
template <int kRows, int kWeights>
BYTE_TARGET void Block(const ByteRows& x, const Begin* begin, int64_t k, const int8_t* w, int64_t w_stride,
                       float* out, int64_t out_stride) {
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));
  __m512i sums[kRows][kWeights][kDigits];
  for (int t = 0; t < kRows; ++t) {
    for (int n = 0; n < kWeights; ++n) {
      for (int d = 0; d < kDigits; ++d) sums[t][n][d] = begin[t].of[d];
    }
  }
  for (int64_t i = 0; i < x.depth; i += kLanes) {
    const auto mask = static_cast<__mmask64>(k - i >= kLanes ? ~uint64_t{0} : (uint64_t{1} << (k - i)) - 1);
    __m512i weight[kWeights];
    for (int n = 0; n < kWeights; ++n) {
      const int8_t* const at = w + n * w_stride + i;
      weight[n] = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, at), flip);
      // As in pair_products.cc.
      _mm_prefetch(reinterpret_cast<const char*>(at + kAhead * w_stride), _MM_HINT_T0);
    }
    for (int t = 0; t < kRows; ++t) {
      for (int d = 0; d < kDigits; ++d) {
        const __m512i factor = _mm512_load_si512(x.digits + (t * kDigits + d) * x.depth + i);
        for (int n = 0; n < kWeights; ++n) {
          sums[t][n][d] = _mm512_dpbusd_epi32(sums[t][n][d], weight[n], factor);
        }
      }
    }
  }
  for (int t = 0; t < kRows; ++t) {
    const __m512 scale = _mm512_set1_ps(x.scales[t].from);
    __m512 products[kWeights];
    for (int n = 0; n < kWeights; ++n) products[n] = _mm512_mul_ps(Joined(sums[t][n]), scale);
    StoreSums(products, out + t * out_stride);
  }
}

/// As many weight rows together as there are registers for sums.
template <int kRows>
BYTE_TARGET void Rows(const ByteRows& x, const Begin* begin, int64_t k, const int8_t* w, int64_t w_stride,
                      int64_t weights, float* out, int64_t out_stride) {
  constexpr int kTogether = 8 / kRows;
  for (; weights >= kTogether; weights -= kTogether, w += kTogether * w_stride, out += kTogether) {
    Block<kRows, kTogether>(x, begin, k, w, w_stride, out, out_stride);
  }
  for (; weights > 0; --weights, w += w_stride, ++out) {
    Block<kRows, 1>(x, begin, k, w, w_stride, out, out_stride);
  }
}

}  // namespace

bool HasByteProducts() {
  static const bool has = __builtin_cpu_supports("avx512vnni") != 0;
  return has && HasBFloat16Matmul();
}

ByteRows BytesOf(const BFloat16* x, int64_t rows, int64_t k, int8_t* digits, RowScale* scales) {
  const int64_t depth = ByteDepth(k);
  std::fill_n(digits, rows * kDigits * depth, int8_t{0});
  for (int64_t t = 0; t < rows; ++t) {
    scales[t] = ScaleOf(x + t * k, k);
    DigitsOf(x + t * k, k, scales[t].to, digits + t * kDigits * depth, depth);
  }
  return {.rows = rows, .depth = depth, .digits = digits, .scales = scales};
}

BYTE_TARGET void ByteProducts(const ByteRows& x, int64_t k, const int8_t* w, int64_t w_stride,
                              int64_t weights, float* out, int64_t out_stride) {
  Begin begin[kMostByteRows];
  const __m512i extra = _mm512_set1_epi8(static_cast<char>(0x80));
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int d = 0; d < kDigits; ++d) {
      const int8_t* const digits = x.digits + (t * kDigits + d) * x.depth;
      __m512i sum = _mm512_setzero_si512();
      for (int64_t i = 0; i < x.depth; i += kLanes) {
        sum = _mm512_dpbusd_epi32(sum, extra, _mm512_load_si512(digits + i));
      }
      begin[t].of[d] = _mm512_sub_epi32(_mm512_setzero_si512(), sum);
    }
  }
  switch (x.rows) {
    case 1:
      return Rows<1>(x, begin, k, w, w_stride, weights, out, out_stride);
    case 2:
      return Rows<2>(x, begin, k, w, w_stride, weights, out, out_stride);
    case 3:
      return Rows<3>(x, begin, k, w, w_stride, weights, out, out_stride);
    default:
      return Rows<4>(x, begin, k, w, w_stride, weights, out, out_stride);
  }
}

#else

bool HasByteProducts() { return false; }
ByteRows BytesOf(const BFloat16*, int64_t, int64_t, int8_t*, RowScale*) { return {}; }
void ByteProducts(const ByteRows&, int64_t, const int8_t*, int64_t, int64_t, float*, int64_t) {}

#endif

}  // namespace internvl
