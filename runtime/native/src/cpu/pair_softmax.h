// Scores of a tile of keys become the weights of their values.
#pragma once

#include <cstdint>

#include "../tensor.h"

namespace internvl {

/// Of one query's scores [columns] over a tile, of which it sees the first `seen`: weights [columns] =
/// exp(scale * score - maximum), rounded to bfloat16, 0 for what is not seen. Brings the query's maximum and
/// its sum of weights, which are not rounded in it, up to date and returns what was gathered under the old
/// maximum shrinks by. columns is a multiple of 16. Only where HasPairRows().
float PairWeights(const float* scores, int64_t seen, int64_t columns, float scale, float& maximum, float& sum,
                  BFloat16* weights);

}  // namespace internvl
