#include "cpu_backend.h"

#include <unistd.h>

#include <cstring>

#include "cpu.h"
#include "parallel.h"
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

void CpuBackend::DownloadRows(void* host, const void* from, int64_t step, int64_t row_bytes, int64_t rows) {
  if (row_bytes == 0) return;
  ParallelFor(rows, rows * row_bytes / static_cast<int64_t>(sizeof(float)), [&](int64_t r, int) {
    std::memcpy(static_cast<std::byte*>(host) + r * row_bytes, static_cast<const std::byte*>(from) + r * step,
                static_cast<size_t>(row_bytes));
  });
}

void CpuBackend::Linear(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out) {
  matmul_.Run(x, weight, bias, out, arena());
}

}  // namespace internvl
