#include "peer_memory.h"

namespace internvl::cuda {

PeerMemory::PeerMemory(int rank, int world, LossWords* words, std::chrono::nanoseconds patience) {
  views_.rank = rank;
  views_.world = world;
  views_.patience_ns = static_cast<uint64_t>(patience.count());
  views_.words = words;
  // By cudaMalloc: memory of a stream's pool cannot be handed over. Large enough to share no block of the
  // driver's with other allocations, which would be handed over with it.
  void* memory = nullptr;
  Check(cudaMalloc(&memory, PeerViews::Bytes(world)), "memory for exchanges between ranks");
  views_.memory[rank] = static_cast<std::byte*>(memory);
  // Before any peer can write into it: the handle is given away afterwards.
  cudaError_t code = cudaMemsetAsync(memory, 0, PeerViews::Bytes(world), nullptr);
  if (code == cudaSuccess) code = cudaDeviceSynchronize();
  if (code != cudaSuccess) {
    cudaFree(memory);
    Check(code, "memory for exchanges between ranks");
  }
}

// Failures are not for a destructor: the driver takes everything back with the process.
PeerMemory::~PeerMemory() {
  for (int peer = 0; peer < views_.world; ++peer) {
    if (peer != views_.rank && views_.memory[peer] != nullptr) cudaIpcCloseMemHandle(views_.memory[peer]);
  }
  cudaFree(views_.memory[views_.rank]);
}

cudaIpcMemHandle_t PeerMemory::handle() const {
  cudaIpcMemHandle_t handle;
  Check(cudaIpcGetMemHandle(&handle, views_.memory[views_.rank]), "cudaIpcGetMemHandle");
  return handle;
}

void PeerMemory::Open(int peer, const cudaIpcMemHandle_t& handle) {
  void* memory = nullptr;
  const cudaError_t code = cudaIpcOpenMemHandle(&memory, handle, cudaIpcMemLazyEnablePeerAccess);
  cudaGetLastError();  // handled: it must not turn up after the next launch
  Check(code, ("opening the memory of rank " + std::to_string(peer)).c_str());
  views_.memory[peer] = static_cast<std::byte*>(memory);
}

}  // namespace internvl::cuda
