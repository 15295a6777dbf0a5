// Conversions of e4m3 against its definition: every code, and the floats at and beside every boundary.
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "../../../cuda_on_host/tests/expect.h"
#include "../../float8_rows.h"
#include "../float8_pairs.h"

namespace internvl::cuda {
namespace {

/// What a code stands for, by the words of the format.
double Defined(int code) {
  const int exponent = code >> 3 & 15, fraction = code & 7;
  if (exponent == 15 && fraction == 7) return NAN;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 7 - 3);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

/// The nearest number, of two the one with an even code; the numbers of one sign rise with their codes.
int Nearest(float value) {
  if (std::isnan(value)) return 0x7f;
  const double magnitude = std::abs(double{value});
  int nearest = 0x7e;
  for (int code = 0x7d; code >= 0; --code) {
    const double before = Defined(nearest) - magnitude, now = magnitude - Defined(code);
    if (now < before || (now == before && code % 2 == 0)) nearest = code;
  }
  return nearest | (std::signbit(value) ? 0x80 : 0);
}

std::string Hex(double value) {
  char text[40];
  std::snprintf(text, sizeof(text), "%a", value);
  return text;
}

bool Same(double a, double b) {
  return std::isnan(a) ? std::isnan(b) : a == b && std::signbit(a) == std::signbit(b);
}

void TestCodes() {
  for (int code = 0; code < 256; ++code) {
    const float value = FromFloat8(static_cast<uint8_t>(code));
    Expect(Same(value, Defined(code)), "code " + std::to_string(code) + " is " + Hex(value));
    if (!std::isnan(value)) Expect(ToFloat8(value) == code, "code " + std::to_string(code) + " and back");
  }
  for (int pair = 0; pair < 0x10000; ++pair) {
    const uint32_t wide = Bf16OfFloat8(0xa5c30000u | static_cast<uint32_t>(pair));
    Expect(
        Same(FromBits(wide & 0xffff), Defined(pair & 255)) && Same(FromBits(wide >> 16), Defined(pair >> 8)),
        "pair " + std::to_string(pair));
  }
  uint32_t pairs[2];
  Bf16OfFloat8(0x7e38b801u, pairs);
  Expect(Same(FromBits(pairs[0] & 0xffff), 0x1p-9) && Same(FromBits(pairs[0] >> 16), -1.0) &&
             Same(FromBits(pairs[1] & 0xffff), 1.0) && Same(FromBits(pairs[1] >> 16), 448.0),
         "four in their order");
}

void TestRounding() {
  std::vector<float> values = {0.0f,     464.0f, 465.0f, 1e30f,
                               INFINITY, NAN,    1e-42f, std::numeric_limits<float>::max()};
  for (int code = 0; code < 0x7e; ++code) {
    const auto here = static_cast<float>(Defined(code)), next = static_cast<float>(Defined(code + 1));
    for (const float at : {here, next, (here + next) / 2}) {
      values.insert(values.end(), {at, std::nextafter(at, 0.0f), std::nextafter(at, INFINITY)});
    }
  }
  std::mt19937 random{8};
  for (int i = 0; i < 200000; ++i) values.push_back(std::bit_cast<float>(static_cast<uint32_t>(random())));
  std::normal_distribution<float> normal(0.0f, 2.0f);
  for (int i = 0; i < 50000; ++i) values.push_back(normal(random));
  for (size_t i = 0; i < values.size(); ++i) {
    for (const float value : {values[i], -values[i]}) {
      const int code = ToFloat8(value), expected = Nearest(value);
      Expect(code == expected,
             Hex(value) + " became " + std::to_string(code) + ", not " + std::to_string(expected));
      const float other = values[(i * 7 + 3) % values.size()];
      Expect(PackFloat8(value, other) == (Nearest(value) | Nearest(other) << 8),
             Hex(value) + " beside " + Hex(other));
    }
  }
}

/// Every number times scales that rows have, the least and the most among them, beside another number and
/// scale.
void TestScales() {
  std::vector<float> scales = {0x1p-126f, 0x1.02p-126f, 0x1p-9f, 1.0f, 0x1.fep-3f, 128.0f, kLargestRowScale};
  std::mt19937 random{9};
  for (int i = 0; i < 50; ++i) {
    const float largest = std::ldexp(1.0f + static_cast<float>(random() % 1000) / 1000.0f,
                                     static_cast<int>(random() % 40) - 25);
    scales.push_back(Float8RowScale(MagnitudeBits(largest)));
  }
  for (size_t i = 0; i < scales.size(); ++i) {
    const float low = scales[i], high = scales[(i * 5 + 2) % scales.size()];
    for (uint32_t code = 0; code < 256; ++code) {
      const uint32_t other = (code * 77 + 5) & 0xff;
      if ((code & 0x7f) == 0x7f || (other & 0x7f) == 0x7f) continue;
      const uint32_t wide = ScaledFloat8(0x00c3003cu | code << 8 | other << 24, ScaleFactors(low, high));
      Expect(Same(FromBits(wide & 0xffff),
                  Rounded<BFloat16>(static_cast<float>(Defined(static_cast<int>(code))) * low)) &&
                 Same(FromBits(wide >> 16),
                      Rounded<BFloat16>(static_cast<float>(Defined(static_cast<int>(other))) * high)),
             "codes " + std::to_string(code) + " and " + std::to_string(other) + " times " + Hex(low) +
                 " and " + Hex(high));
    }
  }
  const uint32_t none =
      ScaledFloat8(0x38003800u, ScaleFactors(Float8RowScale(MagnitudeBits(INFINITY)), 1.0f));
  Expect(std::isnan(FromBits(none & 0xffff)) && Same(FromBits(none >> 16), 1.0),
         "a row that is no number, beside one that is");
}

}  // namespace
}  // namespace internvl::cuda

int main() {
  internvl::cuda::TestCodes();
  internvl::cuda::TestRounding();
  internvl::cuda::TestScales();
  return Finish();
}
