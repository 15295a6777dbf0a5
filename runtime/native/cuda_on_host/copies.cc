// Copies and fills. Addresses are checked against the allocations when the call is made, as the driver does.
#include <cstring>
#include <vector>

#include "allocations.h"
#include "device.h"
#include "streams.h"

using namespace cuda_on_host;

namespace {

/// Rows of a copy on one side; a plain copy is one row.
struct Side {
  std::byte* data;
  size_t pitch;
};

void CopyRows(Side to, Side from, size_t width, size_t height) {
  for (size_t r = 0; r < height; ++r) std::memcpy(to.data + r * to.pitch, from.data + r * from.pitch, width);
}

bool Overlap(Side to, Side from, size_t width, size_t height) {
  return to.data < from.data + from.pitch * (height - 1) + width &&
         from.data < to.data + to.pitch * (height - 1) + width;
}

cudaError_t Copy(Side to, Side from, size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  if (width == 0 || height == 0) return Broken();
  if (to.data == nullptr || from.data == nullptr || (height > 1 && (width > to.pitch || width > from.pitch)))
    return Report(cudaErrorInvalidValue);
  const Range source = Find(from.data, from.pitch * (height - 1) + width);
  const Range target = Find(to.data, to.pitch * (height - 1) + width);
  const bool from_device = source.space == Space::kDevice, to_device = target.space == Space::kDevice;
  const bool wanted = kind == cudaMemcpyDefault ||
                      (from_device == (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice) &&
                       to_device == (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice));
  if (!source.whole || !target.whole || !wanted) return Report(cudaErrorInvalidValue);
  if (Overlap(to, from, width, height))
    return Break(cudaErrorIllegalAddress, "a copy of ranges that overlap, which has no order on a device");
  if (source.space == Space::kPageable && !IsCapturing(stream)) {
    // Read before the call returns.
    std::vector<std::byte> copy(width * height);
    CopyRows({copy.data(), width}, from, width, height);
    return Enqueue(stream, [=, copy = std::move(copy)]() mutable {
      CopyRows(to, {copy.data(), width}, width, height);
    });
  }
  const cudaError_t error = Enqueue(stream, [=] { CopyRows(to, from, width, height); });
  // Written before the call returns.
  if (error == cudaSuccess && target.space == Space::kPageable && !IsCapturing(stream))
    return cudaStreamSynchronize(stream);
  return error;
}

Side SideOf(const void* data, size_t pitch) {
  return {static_cast<std::byte*>(const_cast<void*>(data)), pitch};
}

}  // namespace

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return Copy(SideOf(to, bytes), SideOf(from, bytes), bytes, 1, kind, stream);
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  return Copy(SideOf(to, to_pitch), SideOf(from, from_pitch), width, height, kind, stream);
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
