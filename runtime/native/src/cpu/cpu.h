// The processor, and which of its instruction sets are used.
#pragma once

#include <string>

namespace internvl {

/// Lowers what Highway and oneDNN may use to "scalar", "avx2" or "avx512" (null or anything else: no limit).
/// Holds for the process; counts only before the first operation.
void LimitIsa(const char* isa);

/// Whether oneDNN multiplies bfloat16 matrices with instructions of this CPU.
bool HasBFloat16Matmul();
/// Whether it does so in tiles.
bool HasAmxMatmul();

/// As the operating system names it.
std::string CpuModel();

}  // namespace internvl
