// Arithmetic on rows of float32, compiled for several instruction sets and chosen at run time. bfloat16 rows
// are widened into a float32 buffer, worked on and rounded where the operation says so: no arithmetic happens
// in bfloat16 itself.
#pragma once

#include <cstdint>

#include "../tensor.h"

namespace internvl {

void Widen(const float* from, float* to, int64_t n);
void Widen(const BFloat16* from, float* to, int64_t n);
/// Rounds to nearest even (float32: copies).
void Narrow(const float* from, float* to, int64_t n);
void Narrow(const float* from, BFloat16* to, int64_t n);

/// Rounds in place to what T can hold.
template <typename T>
void RoundRow(float* row, int64_t n);

float Sum(const float* x, int64_t n);
float SumSquares(const float* x, int64_t n);
float Max(const float* x, int64_t n);
/// x = a * x + b
void AffineRow(float a, float b, float* x, int64_t n);
/// y *= x
void MulRow(const float* x, float* y, int64_t n);
/// y += x
void AddRow(const float* x, float* y, int64_t n);
/// x = exp(x - shift); returns the sum. -infinity gives 0.
float ExpRow(float* x, float shift, int64_t n);
/// x = x / 2 * (1 + erf(x / sqrt(2)))
void GeluRow(float* x, int64_t n);
/// out = gate / (1 + exp(-gate)), rounded to what it holds, times up
void SiluMulRow(const float* gate, const float* up, float* out, int64_t n);
void SiluMulRow(const BFloat16* gate, const BFloat16* up, BFloat16* out, int64_t n);
/// low, high = low cos - high sin, high cos + low sin, in place; products rounded to what a row holds before
/// they meet. cos and sin are so rounded.
void RotateRows(float* low, float* high, const float* cos, const float* sin, int64_t n);
void RotateRows(BFloat16* low, BFloat16* high, const float* cos, const float* sin, int64_t n);

/// The widest instruction set that row math uses here: "avx512", "avx2" or "scalar".
const char* RowMathIsa();
/// Keeps row math off everything above "avx512", "avx2" or "scalar"; other names change nothing.
void LimitRowMathIsa(const char* isa);

}  // namespace internvl
