// Environment variables, read at every call:
//   CUDA_ON_HOST_DEVICES     how many devices there are (1)
//   CUDA_ON_HOST_DRIVER      the driver's CUDA version (13000); 0: no driver
//   CUDA_ON_HOST_CAPABILITY  compute capability times ten (90)
//   CUDA_ON_HOST_MEMORY      bytes of memory on the devices together (no limit)
//   CUDA_ON_HOST_FAIL_LAUNCH which launch of a kernel fails, counted from 1, or next (none)
//   CUDA_ON_HOST_IPC         0: no process can open another one's memory (1)
#include "device.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "allocations.h"

namespace cuda_on_host {
namespace {

constexpr int kVersion = 13000;
constexpr int kMultiprocessors = 4;  // few, so that grids sized by them have several rounds

thread_local cudaError_t last_error = cudaSuccess;
thread_local int current_device = 0;

struct Fault {
  std::mutex mutex;
  cudaError_t error = cudaSuccess;
  std::string message;
};
Fault& TheFault() {
  static auto* fault = new Fault;
  return *fault;
}

int DriverVersion() { return static_cast<int>(FromEnvironment("CUDA_ON_HOST_DRIVER", kVersion)); }
int Capability() { return static_cast<int>(FromEnvironment("CUDA_ON_HOST_CAPABILITY", 90)); }

cudaError_t CheckDevice(int device) {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) return error;
  return device >= 0 && device < count ? cudaSuccess : Report(cudaErrorInvalidDevice);
}

}  // namespace

long long FromEnvironment(const char* name, long long otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr || *text == '\0' ? otherwise : std::atoll(text);
}

cudaError_t Report(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

cudaError_t Break(cudaError_t error, const std::string& message) {
  Fault& fault = TheFault();
  const std::lock_guard lock(fault.mutex);
  if (fault.error == cudaSuccess) {
    std::fprintf(stderr, "cuda_on_host: %s\n", message.c_str());
    fault.error = error;
    fault.message = message;
  }
  return fault.error;
}

cudaError_t Broken() {
  Fault& fault = TheFault();
  const std::lock_guard lock(fault.mutex);
  return fault.error;
}

void Mend() {
  Fault& fault = TheFault();
  const std::lock_guard lock(fault.mutex);
  fault.error = cudaSuccess;
  last_error = cudaSuccess;
}

}  // namespace cuda_on_host

using namespace cuda_on_host;

const char* cudaGetErrorName(cudaError_t error) {
#define CUDA_ON_HOST_NAME(name) \
  case name:                    \
    return #name
  switch (error) {
    CUDA_ON_HOST_NAME(cudaSuccess);
    CUDA_ON_HOST_NAME(cudaErrorInvalidValue);
    CUDA_ON_HOST_NAME(cudaErrorMemoryAllocation);
    CUDA_ON_HOST_NAME(cudaErrorInvalidConfiguration);
    CUDA_ON_HOST_NAME(cudaErrorInsufficientDriver);
    CUDA_ON_HOST_NAME(cudaErrorNoDevice);
    CUDA_ON_HOST_NAME(cudaErrorInvalidDevice);
    CUDA_ON_HOST_NAME(cudaErrorPeerAccessUnsupported);
    CUDA_ON_HOST_NAME(cudaErrorInvalidResourceHandle);
    CUDA_ON_HOST_NAME(cudaErrorNotReady);
    CUDA_ON_HOST_NAME(cudaErrorIllegalAddress);
    CUDA_ON_HOST_NAME(cudaErrorLaunchFailure);
    CUDA_ON_HOST_NAME(cudaErrorStreamCaptureUnsupported);
    CUDA_ON_HOST_NAME(cudaErrorStreamCaptureInvalidated);
  }
#undef CUDA_ON_HOST_NAME
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorPeerAccessUnsupported:
      return "peer access is not supported between these two devices";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure: {
      // The message stays: a device breaks once.
      const std::string& message = TheFault().message;
      return message.empty() ? "unspecified launch failure" : message.c_str();
    }
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
  }
  return "unrecognized error code";
}

cudaError_t cudaPeekAtLastError() {
  const cudaError_t broken = Broken();
  return broken != cudaSuccess ? broken : last_error;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  if (DriverVersion() / 1000 < kVersion / 1000) return Report(cudaErrorInsufficientDriver);
  const auto devices = static_cast<int>(FromEnvironment("CUDA_ON_HOST_DEVICES", 1));
  if (devices <= 0) return Report(cudaErrorNoDevice);
  *count = devices;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (const cudaError_t error = CheckDevice(device); error != cudaSuccess) return error;
  current_device = device;
  return Broken();
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (const cudaError_t error = CheckDevice(device); error != cudaSuccess) return error;
  *properties = {};
  std::strcpy(properties->name, "CUDA on the host");
  properties->totalGlobalMem = MemoryOfDevice().total;
  properties->sharedMemPerBlockOptin = kMaxSharedBytes;
  properties->major = Capability() / 10;
  properties->minor = Capability() % 10;
  properties->multiProcessorCount = kMultiprocessors;
  properties->l2CacheSize = 50 << 20;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, device); error != cudaSuccess)
    return error;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = 228 << 10;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = properties.l2CacheSize;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(kMaxSharedBytes);
      return cudaSuccess;
  }
  return Report(cudaErrorInvalidValue);
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = DriverVersion();
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int bytes, int device) {
  if (const cudaError_t error = CheckDevice(device); error != cudaSuccess) return error;
  std::snprintf(id, static_cast<size_t>(bytes), "0000:%02X:00.0", static_cast<unsigned>(device) + 1);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const DeviceMemoryState memory = MemoryOfDevice();
  *free = memory.total - std::min(memory.used, memory.total);
  *total = memory.total;
  return Broken();
}
