// Copies and fills. Addresses are checked against the allocations when the call is made, as the driver does.
#include <cstring>
#include <vector>

#include "allocations.h"
#include "device.h"
#include "streams.h"

using namespace cuda_on_host;

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (bytes == 0) return Broken();
  const Range source = Find(from, bytes), target = Find(to, bytes);
  const bool from_device = source.space == Space::kDevice, to_device = target.space == Space::kDevice;
  const bool wanted = kind == cudaMemcpyDefault ||
                      (from_device == (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice) &&
                       to_device == (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice));
  if (to == nullptr || from == nullptr || !source.whole || !target.whole || !wanted)
    return Report(cudaErrorInvalidValue);
  if (source.space == Space::kPageable && !IsCapturing(stream)) {
    // Read before the call returns.
    const auto* start = static_cast<const std::byte*>(from);
    return Enqueue(stream, [to, copy = std::vector<std::byte>(start, start + bytes)] {
      std::memcpy(to, copy.data(), copy.size());
    });
  }
  const cudaError_t error = Enqueue(stream, [=] { std::memmove(to, from, bytes); });
  // Written before the call returns.
  if (error == cudaSuccess && target.space == Space::kPageable && !IsCapturing(stream))
    return cudaStreamSynchronize(stream);
  return error;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return Broken();
  const Range target = Find(to, bytes);
  if (target.space != Space::kDevice || !target.whole) return Report(cudaErrorInvalidValue);
  return Enqueue(stream, [=] { std::memset(to, value, bytes); });
}
