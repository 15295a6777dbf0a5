#include "cpu.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>

#include "row_math.h"

namespace internvl {

void LimitIsa(const char* isa) {
  if (isa == nullptr) return;
  LimitRowMathIsa(isa);
  // A status other than success means that oneDNN has been used already in this process, under the same
  // limit.
  if (std::strcmp(isa, "avx512_bf16") == 0) dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core_bf16);
  if (std::strcmp(isa, "avx512") == 0) dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core);
  if (std::strcmp(isa, "avx2") == 0) dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2);
  if (std::strcmp(isa, "scalar") == 0) dnnl_set_max_cpu_isa(dnnl_cpu_isa_sse41);
}

bool HasBFloat16Matmul() {
  switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_avx512_core_bf16:
    case dnnl_cpu_isa_avx512_core_amx:
      return true;
    default:
      return false;
  }
}

bool HasTiles() {
#if defined(__x86_64__) && defined(__linux__)
  // The instruction set is one of those that oneDNN may use only where the operating system agreed. It is
  // asked once more, for the whole process, by whoever multiplies first.
  static const bool has = [] {
    constexpr long kAskForPermission = 0x1023, kTileData = 18;
    return dnnl_get_effective_cpu_isa() == dnnl_cpu_isa_avx512_core_amx &&
           syscall(SYS_arch_prctl, kAskForPermission, kTileData) == 0;
  }();
  return has;
#else
  return false;
#endif
}

std::string CpuModel() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace internvl
