// How a token is chosen from a row of logits.
#pragma once

#include <cstdint>
#include <span>

#include "memory.h"

namespace internvl {

/// One row's, as JavaScript writes it and devices read it: see chooseTokens in index.ts.
struct TokenDraw {
  double temperature;  // 0: the likeliest token
  double top_k;        // a whole number; 0: all
  double top_p;        // 1: all
  double share;
};
constexpr int64_t kDrawWords = sizeof(TokenDraw) / sizeof(int32_t);

/// What makes no sense about it; null: nothing.
const char* ProblemOf(const TokenDraw& draw);

/// Draws a token: see drawToken in index.ts. There is a logit at least; `most` is the largest.
int64_t Draw(std::span<const float> logits, double most, const TokenDraw& draw, Scratch& scratch);

}  // namespace internvl
