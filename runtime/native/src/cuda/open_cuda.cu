// Finds the device, or says what to do about it.
#include "../open_cuda.h"
#include "cuda_backend.h"

namespace internvl {
namespace {

constexpr int kOldestCapability = 80;  // asynchronous copies and bfloat16 products came with it

/// 13000 -> "13.0"
std::string Version(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

int CountDevices() {
  int count = 0, driver = 0, runtime = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaSuccess) return count;
  cudaGetLastError();  // said here: it must not turn up after a launch
  if (code == cudaErrorNoDevice)
    throw DeviceError(
        "no CUDA device: this machine has none, or the container was not given one (nvidia.com/gpu in its "
        "resources, CUDA_VISIBLE_DEVICES in its environment)");
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (code == cudaErrorInsufficientDriver && driver == 0)
    throw DeviceError(
        "no NVIDIA driver: install one, or, in a container, let the NVIDIA container toolkit mount it");
  if (code == cudaErrorInsufficientDriver)
    throw DeviceError("the NVIDIA driver is too old: it is for CUDA " + Version(driver) +
                      ", this build needs one for CUDA " + Version(runtime) + " or later");
  cuda::Check(code, "cudaGetDeviceCount");
  return 0;
}

}  // namespace

std::unique_ptr<Backend> OpenCuda(int device) {
  const int count = CountDevices();
  if (device < 0 || device >= count)
    throw DeviceError("no CUDA device " + std::to_string(device) + ": this process sees " +
                      std::to_string(count) + ", from 0 on");
  cuda::Check(cudaSetDevice(device), "cudaSetDevice");
  cudaDeviceProp properties;
  cuda::Check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  if (properties.major * 10 + properties.minor < kOldestCapability)
    throw DeviceError("CUDA device " + std::to_string(device) + ", " + properties.name +
                      ", has compute capability " + std::to_string(properties.major) + "." +
                      std::to_string(properties.minor) + "; 8.0 or later is needed");
  return cuda::CudaBackend::Make(device);
}

}  // namespace internvl
