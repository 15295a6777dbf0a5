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
constexpr int kTogether = 4;    // weight rows
constexpr int64_t kAhead = 2;   // blocks of weight rows

/// The instruction multiplies bytes without a sign with bytes that have one: a weight w is w + 128 to it, and
/// the sums begin with what that is too much.
template <int kWeights>
BYTE_TARGET void Block(const ByteFactor& x, const __m512i (&begin)[kDigits], int64_t k, const int8_t* w,
                       int64_t w_stride, float* out) {
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));
  __m512i sums[kWeights][kDigits];
  for (int n = 0; n < kWeights; ++n) {
    for (int d = 0; d < kDigits; ++d) sums[n][d] = begin[d];
  }
  for (int64_t i = 0; i < x.depth; i += kLanes) {
    __m512i factors[kDigits];
    for (int d = 0; d < kDigits; ++d) factors[d] = _mm512_load_si512(x.digits + d * x.depth + i);
    const auto mask = static_cast<__mmask64>(k - i >= kLanes ? ~uint64_t{0} : (uint64_t{1} << (k - i)) - 1);
    for (int n = 0; n < kWeights; ++n) {
      const int8_t* const at = w + n * w_stride + i;
      const __m512i weight = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, at), flip);
      // As in pair_products.cc.
      _mm_prefetch(reinterpret_cast<const char*>(at + kAhead * kWeights * w_stride), _MM_HINT_T1);
      for (int d = 0; d < kDigits; ++d) sums[n][d] = _mm512_dpbusd_epi32(sums[n][d], weight, factors[d]);
    }
  }
  __m512 four[kTogether] = {};
  for (int n = 0; n < kWeights; ++n) four[n] = Joined(sums[n]);
  const __m128 products = _mm_mul_ps(SumsOf(four[0], four[1], four[2], four[3]), _mm_set1_ps(x.scale));
  _mm_mask_storeu_ps(out, (1 << kWeights) - 1, products);
}

}  // namespace

bool HasByteProducts() {
  static const bool has = __builtin_cpu_supports("avx512vnni") != 0;
  return has && HasBFloat16Matmul();
}

ByteFactor BytesOf(const BFloat16* x, int64_t k, int8_t* memory) {
  const int64_t depth = (k + kLanes - 1) / kLanes * kLanes;
  std::fill_n(memory, kDigits * depth, int8_t{0});
  const RowScale scale = ScaleOf(x, k);
  DigitsOf(x, k, scale.to, memory, depth);
  return {.digits = memory, .depth = depth, .scale = scale.from};
}

BYTE_TARGET void ByteRow(const ByteFactor& x, int64_t k, const int8_t* w, int64_t w_stride, int64_t weights,
                         float* out) {
  __m512i begin[kDigits];
  const __m512i extra = _mm512_set1_epi8(static_cast<char>(0x80));
  for (int d = 0; d < kDigits; ++d) {
    __m512i sum = _mm512_setzero_si512();
    for (int64_t i = 0; i < x.depth; i += kLanes) {
      sum = _mm512_dpbusd_epi32(sum, extra, _mm512_load_si512(x.digits + d * x.depth + i));
    }
    begin[d] = _mm512_sub_epi32(_mm512_setzero_si512(), sum);
  }
  int64_t n = 0;
  for (; n + kTogether <= weights; n += kTogether) {
    Block<kTogether>(x, begin, k, w + n * w_stride, w_stride, out + n);
  }
  for (; n < weights; ++n) Block<1>(x, begin, k, w + n * w_stride, w_stride, out + n);
}

#else

bool HasByteProducts() { return false; }
ByteFactor BytesOf(const BFloat16*, int64_t, int8_t*) { return {}; }
void ByteRow(const ByteFactor&, int64_t, const int8_t*, int64_t, int64_t, float*) {}

#endif

}  // namespace internvl
