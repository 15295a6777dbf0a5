#include <string>

#include "launch.h"

namespace internvl::cuda {

void Check(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return;
  throw DeviceError(std::string(what) + ": " + cudaGetErrorString(code) + " (" + cudaGetErrorName(code) +
                    ")");
}

}  // namespace internvl::cuda
