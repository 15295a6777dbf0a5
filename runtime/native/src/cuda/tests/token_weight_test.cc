// Weights of tokens against double precision: the contract in index.ts says how far they may be from it.
#include "../token_weight.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>

#include "../../../cuda_on_host/tests/expect.h"

namespace internvl::cuda {
namespace {

constexpr double kWhole = static_cast<double>(Mass{1} << kMassBits);

/// How far the weight is from what it should be, over what is allowed.
double Error(float logit, float most, double temperature) {
  const double exact = std::exp((static_cast<double>(logit) - most) / temperature);
  const double found = static_cast<double>(Weigher(most, temperature)(logit)) / kWhole;
  return std::abs(found - exact) / (std::ldexp(exact, -22) + 1 / kWhole);
}

void TestAccuracy() {
  std::mt19937 random(1);
  std::uniform_real_distribution<double> uniform(0, 1);
  double worst = 0;
  for (int i = 0; i < 2'000'000; ++i) {
    const double temperature = std::exp2(uniform(random) * 199 - 99.5);
    const auto most =
        static_cast<float>((uniform(random) - 0.5) * temperature * std::exp2(uniform(random) * 20));
    const auto logit = static_cast<float>(most - uniform(random) * 32 * temperature);
    if (logit <= most && std::isfinite(most)) worst = std::max(worst, Error(logit, most, temperature));
  }
  Expect(worst <= 1, "the worst weight is off by " + std::to_string(worst) + " of what is allowed");
  Expect(worst > 0.1, "weights are rounded, or the test compares nothing");
}

void TestEnds() {
  for (const double temperature : {1e-30, 0.7, 1e30}) {
    for (const float most : {0.0f, -3.5f, 1e-40f, 3e38f}) {
      const Weigher weigher(most, temperature);
      Expect(weigher(most) == Mass{1} << kMassBits, "the likeliest weighs 1");
      Expect(weigher(-INFINITY) == 0, "what is ruled out weighs nothing");
    }
  }
  Expect(Weigher(3e38f, 1)(-3e38f) == 0, "what lies farther than float32 can tell weighs nothing");
  Expect(Weigher(0.0f, 1)(-0.0f) == Mass{1} << kMassBits, "-0 is as likely as 0");
}

/// Buckets are in the order of logits only if this holds.
void TestOrder() {
  const Weigher weigher(7.3f, 0.37);
  bool falls = true;
  for (const float start : {7.3f, 7.0f, 4.1f, 1.0f, 1e-3f, 1e-44f, -1e-40f, -0.5f, -7.3f}) {
    float before = weigher.Exponent(start), logit = start;
    for (int i = 0; i < 10'000; ++i) {
      logit = std::nextafter(logit, -INFINITY);
      const float exponent = weigher.Exponent(logit);
      falls &= exponent <= before && exponent <= 0;
      before = exponent;
    }
  }
  Expect(falls, "the exponent falls with the logit");
}

}  // namespace
}  // namespace internvl::cuda

int main() {
  internvl::cuda::TestAccuracy();
  internvl::cuda::TestEnds();
  internvl::cuda::TestOrder();
  return Finish();
}
