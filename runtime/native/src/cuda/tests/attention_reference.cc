#include "attention_reference.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

namespace internvl::cuda {

template <typename T>
std::string CompareRow(const T* q, const std::vector<const T*>& keys, const std::vector<const T*>& values,
                       int64_t dim, double scale, const T* result, Worst& worst) {
  std::vector<double> weights;
  for (const T* key : keys) {
    double score = 0;
    for (int64_t d = 0; d < dim; ++d) score += double{ToFloat(q[d])} * double{ToFloat(key[d])};
    weights.push_back(score * scale);
  }
  const double highest = *std::max_element(weights.begin(), weights.end());
  double total = 0;
  for (double& weight : weights) total += weight = std::exp(weight - highest);
  std::vector<double> expected(static_cast<size_t>(dim)), absolute(static_cast<size_t>(dim));
  for (size_t k = 0; k < keys.size(); ++k) {
    for (int64_t d = 0; d < dim; ++d) {
      const double value = weights[k] / total * double{ToFloat(values[k][d])};
      expected[static_cast<size_t>(d)] += value;
      absolute[static_cast<size_t>(d)] += std::abs(value);
    }
  }
  constexpr double kPart = std::is_same_v<T, float> ? 1e-5 : 1.0 / 256 + 1e-4;
  for (int64_t d = 0; d < dim; ++d) {
    const auto at = static_cast<size_t>(d);
    const double got = ToFloat(result[d]), error = std::abs(got - expected[at]);
    const double tolerance = kPart * (absolute[at] + std::abs(expected[at]));
    if (!(error <= tolerance)) {
      return "column " + std::to_string(d) + " is " + std::to_string(got) + ", not " +
             std::to_string(expected[at]) + " +- " + std::to_string(tolerance);
    }
    ++worst.compared;
    if (error / tolerance > worst.part) {
      worst.part = error / tolerance;
      worst.error = error;
    }
  }
  return "";
}

template std::string CompareRow(const float*, const std::vector<const float*>&,
                                const std::vector<const float*>&, int64_t, double, const float*, Worst&);
template std::string CompareRow(const BFloat16*, const std::vector<const BFloat16*>&,
                                const std::vector<const BFloat16*>&, int64_t, double, const BFloat16*,
                                Worst&);

}  // namespace internvl::cuda
