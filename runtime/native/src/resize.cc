// Pillow's 8-bit BICUBIC resampling, bit for bit: fixed-point weights, horizontal pass first, uint8 between
// the passes.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cpu/parallel.h"
#include "operations.h"

namespace internvl {
namespace {

constexpr int kPrecisionBits = 32 - 8 - 2;
constexpr int64_t kMaxSide = 1 << 16;

double Bicubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

/// For every output sample: the first input sample, how many, and their weights scaled by 2^kPrecisionBits.
struct Kernel {
  int64_t taps;  // weights per output sample, unused ones zero
  std::vector<int64_t> first, count;
  std::vector<int32_t> weights;
};

Kernel MakeKernel(int64_t in, int64_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double filter_scale = std::max(scale, 1.0);
  const double support = 2.0 * filter_scale;
  Kernel kernel;
  kernel.taps = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  kernel.first.resize(static_cast<size_t>(out));
  kernel.count.resize(static_cast<size_t>(out));
  kernel.weights.resize(static_cast<size_t>(out * kernel.taps));
  std::vector<double> row(static_cast<size_t>(kernel.taps));
  for (int64_t o = 0; o < out; ++o) {
    const double center = (static_cast<double>(o) + 0.5) * scale;
    const double inverse = 1.0 / filter_scale;
    // Truncation, not floor: what lies below 0 is clamped anyway.
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(center - support + 0.5), 0);
    const int64_t count = std::min<int64_t>(static_cast<int64_t>(center + support + 0.5), in) - first;
    double total = 0.0;
    for (int64_t i = 0; i < count; ++i) {
      row[i] = Bicubic((static_cast<double>(i + first) - center + 0.5) * inverse);
      total += row[i];
    }
    for (int64_t i = 0; i < count; ++i) {
      const double weight = (total != 0.0 ? row[i] / total : row[i]) * (1 << kPrecisionBits);
      kernel.weights[o * kernel.taps + i] = static_cast<int32_t>(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
    kernel.first[o] = first;
    kernel.count[o] = count;
  }
  return kernel;
}

uint8_t Clip(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255)); }

constexpr int32_t kHalf = 1 << (kPrecisionBits - 1);

void ResampleColumns(const uint8_t* in, int64_t width, int64_t rows, const Kernel& kernel, uint8_t* out,
                     int64_t out_width) {
  ParallelFor(rows, rows * width * 3, [&](int64_t r, int) {
    for (int64_t o = 0; o < out_width; ++o) {
      const uint8_t* from = in + (r * width + kernel.first[o]) * 3;
      const int32_t* weights = kernel.weights.data() + o * kernel.taps;
      int32_t red = kHalf, green = kHalf, blue = kHalf;
      for (int64_t i = 0; i < kernel.count[o]; ++i) {
        red += from[i * 3] * weights[i];
        green += from[i * 3 + 1] * weights[i];
        blue += from[i * 3 + 2] * weights[i];
      }
      uint8_t* to = out + (r * out_width + o) * 3;
      to[0] = Clip(red);
      to[1] = Clip(green);
      to[2] = Clip(blue);
    }
  });
}

/// `in` starts at input row `offset`.
void ResampleRows(const uint8_t* in, int64_t width, int64_t offset, const Kernel& kernel, uint8_t* out,
                  int64_t out_height) {
  const int64_t line = width * 3;
  ParallelFor(out_height, out_height * line, [&](int64_t o, int) {
    const uint8_t* from = in + (kernel.first[o] - offset) * line;
    const int32_t* weights = kernel.weights.data() + o * kernel.taps;
    // A block of columns at a time, so that the sums stay in cache while the rows go by.
    constexpr int64_t kBlock = 512;
    int32_t sums[kBlock];
    for (int64_t start = 0; start < line; start += kBlock) {
      const int64_t n = std::min(kBlock, line - start);
      std::fill_n(sums, n, kHalf);
      for (int64_t i = 0; i < kernel.count[o]; ++i) {
        const uint8_t* source = from + i * line + start;
        const int32_t weight = weights[i];
        for (int64_t c = 0; c < n; ++c) sums[c] += source[c] * weight;
      }
      for (int64_t c = 0; c < n; ++c) out[o * line + start + c] = Clip(sums[c]);
    }
  });
}

}  // namespace

Napi::Value ResizeBicubic(const Call& call) {
  const auto rgb = call.Bytes(0, "rgb");
  const int64_t width = call.Integer(1, "width", 1, kMaxSide),
                height = call.Integer(2, "height", 1, kMaxSide);
  const int64_t out_width = call.Integer(3, "outWidth", 1, kMaxSide),
                out_height = call.Integer(4, "outHeight", 1, kMaxSide);
  REQUIRE(
      call, static_cast<int64_t>(rgb.size()) == width * height * 3,
      "rgb must have " + std::to_string(width * height * 3) + " bytes, not " + std::to_string(rgb.size()));
  auto result = Napi::Uint8Array::New(call.env(), static_cast<size_t>(out_width * out_height * 3));

  const uint8_t* source = rgb.data();
  int64_t first_row = 0;
  const Kernel vertical = MakeKernel(height, out_height);
  std::vector<uint8_t> columns;
  if (width != out_width) {
    // Only the rows that the vertical pass reads.
    first_row = vertical.first.front();
    const int64_t last_row = vertical.first.back() + vertical.count.back();
    const int64_t rows = last_row - first_row;
    const bool last_pass = height == out_height;
    if (!last_pass) columns.resize(static_cast<size_t>(rows * out_width * 3));
    uint8_t* to = last_pass ? result.Data() : columns.data();
    ResampleColumns(source + first_row * width * 3, width, rows, MakeKernel(width, out_width), to, out_width);
    source = to;
  }
  if (height != out_height) {
    ResampleRows(source, out_width, first_row, vertical, result.Data(), out_height);
  } else if (width == out_width) {
    std::memcpy(result.Data(), source, rgb.size());
  }
  return result;
}

}  // namespace internvl
