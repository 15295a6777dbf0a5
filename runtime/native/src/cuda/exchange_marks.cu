#include <atomic>

#include "exchange_marks.h"

namespace internvl::cuda {
namespace {

__global__ void PutKernel(ExchangeMark mark) { mark.Put(); }

}  // namespace

ExchangeMarks::ExchangeMarks() {
  words()[0] = words()[1] = 0;
  const AllowAllocations allow;
  Check(cudaMalloc(&counts_, 2 * sizeof(uint64_t)), "counts of exchanges");
  cudaError_t code = cudaMemsetAsync(counts_, 0, 2 * sizeof(uint64_t), nullptr);
  if (code == cudaSuccess) code = cudaDeviceSynchronize();
  if (code == cudaSuccess) return;
  cudaFree(counts_);
  Check(code, "counts of exchanges");
}

ExchangeMarks::~ExchangeMarks() { cudaFree(counts_); }

void ExchangeMarks::Put(const ExchangeMark& mark, cudaStream_t stream) {
  Launch(PutKernel, 1, 1, 0, stream, mark);
}

std::optional<uint64_t> ExchangeMarks::UnderWay() const {
  const uint64_t ended = std::atomic_ref(words()[1]).load(), begun = std::atomic_ref(words()[0]).load();
  return begun > ended ? std::optional(begun) : std::nullopt;
}

}  // namespace internvl::cuda
