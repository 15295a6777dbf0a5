// cuBLASLt's part of the emulation: the functions that src/cuda/cublas_lt.h names, in three loops. In the
// place of src/cuda/cublas_lt.cc.
#include <algorithm>

#include "../src/cuda/cublas_lt.h"
#include "../src/tensor.h"
#include "allocations.h"
#include "streams.h"

namespace internvl::cuda::lt {

struct HandleContents {};
struct PreferenceContents {};
struct OperationContents {
  int32_t transpose_a = 0;
  uint32_t epilogue = kDefaultEpilogue;
  const void* bias = nullptr;
  Type bias_type = Type::kFloat32;
};
struct LayoutContents {
  Type type;
  uint64_t rows, cols;
  int64_t leading;

  size_t ElementBytes() const { return type == Type::kFloat32 ? sizeof(float) : sizeof(BFloat16); }
  size_t Bytes() const { return ((cols - 1) * static_cast<uint64_t>(leading) + rows) * ElementBytes(); }
};

namespace {

constexpr Status kInvalidValue{7};
constexpr int kAlgorithms = 3;  // all alike

float Element(const void* values, Type type, uint64_t i) {
  return type == Type::kFloat32 ? static_cast<const float*>(values)[i]
                                : ToFloat(static_cast<const BFloat16*>(values)[i]);
}

template <typename T>
Status Set(T& attribute, const void* value, size_t bytes) {
  if (bytes != sizeof(T)) return kInvalidValue;
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
  }
  return kInvalidValue;
}

Status SetLayout(Layout layout, LayoutAttribute, const void* value, size_t bytes) {
  return Set(layout->cols, value, bytes);
}

/// What the library multiplies: factors of one type, with a result of that type or of float32 and a bias of
/// the result's.
bool Takes(const OperationContents& operation, const LayoutContents& a, const LayoutContents& b,
           const LayoutContents& d) {
  return operation.transpose_a == kTransposed && a.type == b.type &&
         (d.type == a.type || d.type == Type::kFloat32) && a.rows == b.rows && a.cols == d.rows &&
         b.cols == d.cols && (operation.epilogue == kDefaultEpilogue || operation.bias_type == d.type);
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
    return kInvalidValue;
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
