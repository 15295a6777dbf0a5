// The processor, and which of its instruction sets are used.
#pragma once

#include <string>

namespace internvl {

/// Lowers what is used to "scalar", "avx2", "avx512" or "avx512_bf16" (null or anything else: no limit).
/// Holds for the process; counts only before the first operation.
void LimitIsa(const char* isa);

/// Whether oneDNN multiplies bfloat16 matrices with instructions of this CPU.
bool HasBFloat16Matmul();
/// Whether the processor multiplies them in tiles (AMX), the operating system lets this process do so, and
/// the instruction set asked for includes it.
bool HasTiles();

/// As the operating system names it.
std::string CpuModel();

}  // namespace internvl
