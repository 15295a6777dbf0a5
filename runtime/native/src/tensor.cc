#include "tensor.h"

namespace internvl {

const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kInt32:
      return "int32";
    case DType::kUint8:
      return "uint8";
    case DType::kInt8:
      return "int8";
    case DType::kFloat8:
      return "float8";
  }
  return "unknown";
}

std::string Describe(const Tensor& tensor) {
  std::string text = std::string(DTypeName(tensor.dtype)) + " [";
  for (int d = 0; d < tensor.dims; ++d) text += (d ? ", " : "") + std::to_string(tensor.shape[d]);
  return text + "]";
}

}  // namespace internvl
