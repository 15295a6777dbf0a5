#include "cpu_backend.h"

#include <unistd.h>

#include <cstring>

#include "cpu.h"
#include "row_math.h"

namespace internvl {

DeviceInfo CpuBackend::Info() {
  const auto page = static_cast<int64_t>(sysconf(_SC_PAGE_SIZE));
  return {.kind = "cpu",
          .name = CpuModel(),
          .capability = RowMathIsa(),
          .free_bytes = static_cast<int64_t>(sysconf(_SC_AVPHYS_PAGES)) * page,
          .total_bytes = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * page};
}

void CpuBackend::Zero(void* data, size_t bytes) {
  if (bytes > 0) std::memset(data, 0, bytes);
}

void CpuBackend::Upload(void* to, const void* host, size_t bytes) {
  if (bytes > 0) std::memcpy(to, host, bytes);
}

void CpuBackend::Download(void* host, const void* from, size_t bytes) {
  if (bytes > 0) std::memcpy(host, from, bytes);
}

void CpuBackend::Move(void* to, const void* from, size_t bytes) {
  if (bytes > 0) std::memmove(to, from, bytes);
}

void CpuBackend::Linear(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out) {
  matmul_.Run(x, weight, bias, out, arena());
}

}  // namespace internvl
