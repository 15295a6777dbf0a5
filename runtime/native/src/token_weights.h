// Rows of logits as weights of tokens and as places in their order. Weights are in double precision, so that
// those of a large vocabulary still add up.
#pragma once

#include <cstdint>

namespace internvl {

/// weights[i] = exp((logits[i] - shift) / temperature); returns their sum. Shifted before it is divided, so
/// that no temperature (> 0) overflows.
double TokenWeights(const float* logits, double shift, double temperature, double* weights, int64_t n);

/// The sum of exp(logits[i] - shift).
double SumExp(const float* logits, double shift, int64_t n);

/// distances[i] = the place of logits[i] in the order of all float32 values, the largest first: a smaller one
/// is a larger logit, equal ones are equal logits (-0 and 0 are equal).
void RankDistances(const float* logits, uint32_t* distances, int64_t n);

/// The least and the largest of n >= 1 distances.
void DistanceRange(const uint32_t* distances, int64_t n, uint32_t* low, uint32_t* high);

/// The indices of the distances of [low, high], ascending; returns how many. `indices` has room for n of
/// them.
int64_t IndicesBetween(const uint32_t* distances, uint32_t low, uint32_t high, int32_t* indices, int64_t n);

}  // namespace internvl
