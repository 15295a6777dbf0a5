#include "open_cuda.h"

namespace internvl {

std::unique_ptr<Backend> OpenCuda(int) {
  throw DeviceError("this addon was built without CUDA: run npm run build:cuda");
}

}  // namespace internvl
