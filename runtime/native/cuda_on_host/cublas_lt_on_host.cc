// cuBLASLt's part of the emulation: the functions that src/cuda/cublas_lt.h names, in three loops. In the
// place of src/cuda/cublas_lt.cc. What the library refuses is refused here. CUDA_ON_HOST_OUTER_VECTORS=0
// makes it one from before 12.9, which knows no vectors of scales.
#include <algorithm>

#include "../src/cuda/cublas_lt.h"
#include "../src/tensor.h"
#include "allocations.h"
#include "device.h"
#include "streams.h"

namespace internvl::cuda::lt {

struct HandleContents {};
struct PreferenceContents {};
struct OperationContents {
  int32_t transpose_a = 0;
  uint32_t epilogue = kDefaultEpilogue;
  const void* bias = nullptr;
  Type bias_type = Type::kFloat32;
  int32_t scale_mode_a = 0, scale_mode_b = 0;
  const void* scales_a = nullptr;
  const void* scales_b = nullptr;
};
struct LayoutContents {
  Type type;
  uint64_t rows, cols;
  int64_t leading;

  size_t ElementBytes() const { return type == Type::kFloat32 ? 4 : type == Type::kBFloat16 ? 2 : 1; }
  size_t Bytes() const { return ((cols - 1) * static_cast<uint64_t>(leading) + rows) * ElementBytes(); }
};

namespace {

constexpr int kAlgorithms = 3;  // all alike

float Element(const void* values, Type type, uint64_t i) {
  if (type == Type::kFloat8) return ToFloat(static_cast<const Float8*>(values)[i]);
  return type == Type::kFloat32 ? static_cast<const float*>(values)[i]
                                : ToFloat(static_cast<const BFloat16*>(values)[i]);
}

template <typename T>
Status Set(T& attribute, const void* value, size_t bytes) {
  if (bytes != sizeof(T)) return Status::kInvalidValue;
  attribute = *static_cast<const T*>(value);
  return Status::kSuccess;
}

template <typename Contents>
Status Make(Contents** made, Contents contents) {
  *made = new Contents(contents);
  return Status::kSuccess;
}

template <typename Contents>
Status Destroy(Contents* made) {
  delete made;
  return Status::kSuccess;
}

Status SetScaleMode(int32_t& mode, const void* value, size_t bytes) {
  if (cuda_on_host::FromEnvironment("CUDA_ON_HOST_OUTER_VECTORS", 1) == 0) return Status::kInvalidValue;
  return Set(mode, value, bytes);
}

Status SetOperation(Operation operation, OperationAttribute attribute, const void* value, size_t bytes) {
  switch (attribute) {
    case OperationAttribute::kTransposeA:
      return Set(operation->transpose_a, value, bytes);
    case OperationAttribute::kEpilogue:
      return Set(operation->epilogue, value, bytes);
    case OperationAttribute::kBiasPointer:
      return Set(operation->bias, value, bytes);
    case OperationAttribute::kBiasType:
      return Set(operation->bias_type, value, bytes);
    case OperationAttribute::kScalePointerA:
      return Set(operation->scales_a, value, bytes);
    case OperationAttribute::kScalePointerB:
      return Set(operation->scales_b, value, bytes);
    case OperationAttribute::kScaleModeA:
      return SetScaleMode(operation->scale_mode_a, value, bytes);
    case OperationAttribute::kScaleModeB:
      return SetScaleMode(operation->scale_mode_b, value, bytes);
  }
  return Status::kInvalidValue;
}

Status SetLayout(Layout layout, LayoutAttribute, const void* value, size_t bytes) {
  return Set(layout->cols, value, bytes);
}

int Capability() {
  int major = 0, minor = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
  return 10 * major + minor;
}

bool OfWholeVectors(const LayoutContents& layout) {
  return layout.rows * layout.ElementBytes() % 16 == 0 &&
         static_cast<size_t>(layout.leading) * layout.ElementBytes() % 16 == 0;
}

/// e4m3 is multiplied from sm_89 on, in vectors of 16 bytes, and scaled by vectors on sm_90 alone: by both,
/// and nothing is proposed before their addresses are known. A bias would be bfloat16, which is not asked
/// for.
bool TakesFloat8(const OperationContents& operation, const LayoutContents& a, const LayoutContents& b,
                 const LayoutContents& d) {
  const int capability = Capability();
  const bool scaled = operation.scale_mode_a == kOuterVector;
  return capability >= 89 && OfWholeVectors(a) && OfWholeVectors(b) && OfWholeVectors(d) &&
         operation.epilogue == kDefaultEpilogue && operation.scale_mode_a == operation.scale_mode_b &&
         scaled == (operation.scales_a != nullptr) && scaled == (operation.scales_b != nullptr) &&
         (!scaled || capability == 90);
}

/// What the library multiplies: factors of one type, with a result of that type or of float32 and a bias of
/// the result's; e4m3 also with a result in bfloat16.
bool Takes(const OperationContents& operation, const LayoutContents& a, const LayoutContents& b,
           const LayoutContents& d) {
  if (operation.transpose_a != kTransposed || a.type != b.type || a.rows != b.rows || a.cols != d.rows ||
      b.cols != d.cols || d.type == Type::kFloat8) {
    return false;
  }
  if (a.type == Type::kFloat8) return TakesFloat8(operation, a, b, d);
  return (d.type == a.type || d.type == Type::kFloat32) &&
         (operation.epilogue == kDefaultEpilogue || operation.bias_type == d.type);
}

Status Heuristic(Handle, Operation operation, Layout a, Layout b, Layout, Layout d, Preference, int most,
                 Candidate* candidates, int* count) {
  *count = 0;
  if (!Takes(*operation, *a, *b, *d)) return Status::kNotSupported;
  for (; *count < std::min(most, kAlgorithms); ++*count) {
    candidates[*count] = {};
    candidates[*count].algorithm.data[0] = static_cast<uint64_t>(*count);
  }
  return Status::kSuccess;
}

void Multiply(const OperationContents& operation, const void* a, const LayoutContents& a_layout,
              const void* b, const LayoutContents& b_layout, void* d, const LayoutContents& d_layout) {
  for (uint64_t column = 0; column < d_layout.cols; ++column) {
    for (uint64_t row = 0; row < d_layout.rows; ++row) {
      double sum = 0;
      for (uint64_t k = 0; k < a_layout.rows; ++k) {
        sum += double{Element(a, a_layout.type, row * static_cast<uint64_t>(a_layout.leading) + k)} *
               Element(b, b_layout.type, column * static_cast<uint64_t>(b_layout.leading) + k);
      }
      if (operation.scale_mode_a == kOuterVector) {
        sum *= double{static_cast<const float*>(operation.scales_a)[row]} *
               static_cast<const float*>(operation.scales_b)[column];
      }
      if (operation.epilogue == kBiasEpilogue) sum += Element(operation.bias, operation.bias_type, row);
      const uint64_t at = column * static_cast<uint64_t>(d_layout.leading) + row;
      if (d_layout.type == Type::kFloat32) {
        static_cast<float*>(d)[at] = static_cast<float>(sum);
      } else {
        static_cast<BFloat16*>(d)[at] = ToBFloat16(static_cast<float>(sum));
      }
    }
  }
}

Status Enqueue(Handle, Operation operation, const void*, const void* a, Layout a_layout, const void* b,
               Layout b_layout, const void*, const void*, Layout, void* d, Layout d_layout,
               const Algorithm* algorithm, void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  using cuda_on_host::Find;
  if (!Takes(*operation, *a_layout, *b_layout, *d_layout)) return Status::kNotSupported;
  if (algorithm->data[0] >= kAlgorithms || !Find(a, a_layout->Bytes()).whole ||
      !Find(b, b_layout->Bytes()).whole || !Find(d, d_layout->Bytes()).whole ||
      !Find(workspace, workspace_bytes).whole) {
    return Status::kInvalidValue;
  }
  if (a_layout->type == Type::kFloat8 &&
      (reinterpret_cast<uintptr_t>(a) % 16 != 0 || reinterpret_cast<uintptr_t>(b) % 16 != 0 ||
       reinterpret_cast<uintptr_t>(d) % 16 != 0)) {
    return Status::kInvalidValue;
  }
  // Descriptions are copied: they may change before the work is done.
  const cudaError_t error = cuda_on_host::Enqueue(
      stream, [=, operation = *operation, a_layout = *a_layout, b_layout = *b_layout, d_layout = *d_layout] {
        Multiply(operation, a, a_layout, b, b_layout, d, d_layout);
      });
  return error == cudaSuccess ? Status::kSuccess : Status{13};
}

}  // namespace

const Library& Load() {
  static const Library library{
      .Create = [](Handle* handle) { return Make(handle, {}); },
      .Destroy = Destroy<HandleContents>,
      .GetVersion = [] { return size_t{0}; },
      .MatmulDescCreate = [](Operation* operation, Compute, Type) { return Make(operation, {}); },
      .MatmulDescDestroy = Destroy<OperationContents>,
      .MatmulDescSetAttribute = SetOperation,
      .MatrixLayoutCreate =
          [](Layout* layout, Type type, uint64_t rows, uint64_t cols, int64_t leading) {
            return Make(layout, {type, rows, cols, leading});
          },
      .MatrixLayoutDestroy = Destroy<LayoutContents>,
      .MatrixLayoutSetAttribute = SetLayout,
      .MatmulPreferenceCreate = [](Preference* preference) { return Make(preference, {}); },
      .MatmulPreferenceDestroy = Destroy<PreferenceContents>,
      .MatmulPreferenceSetAttribute = [](Preference, PreferenceAttribute, const void*,
                                         size_t) { return Status::kSuccess; },
      .MatmulAlgoGetHeuristic = Heuristic,
      .Matmul = Enqueue,
  };
  return library;
}

}  // namespace internvl::cuda::lt
