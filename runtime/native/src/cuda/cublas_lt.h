// The part of cuBLASLt that is used here. Declared here and not taken from its header, so that neither a
// build nor the tests need the package of 400 MB that has it; where the header is there, cublas_lt.cc
// compares.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace internvl::cuda::lt {

using Handle = struct HandleContents*;
using Operation = struct OperationContents*;  // cublasLtMatmulDesc_t
using Layout = struct LayoutContents*;        // cublasLtMatrixLayout_t
using Preference = struct PreferenceContents*;

enum class Status : int { kSuccess = 0, kInvalidValue = 7, kNotSupported = 15 };
enum class Type : int { kFloat32 = 0, kBFloat16 = 14, kFloat8 = 28 };  // cudaDataType_t
enum class Compute : int { kFloat32 = 68 };                            // cublasComputeType_t; no TF32

enum class OperationAttribute : int {
  kTransposeA = 3,
  kEpilogue = 7,
  kBiasPointer = 8,
  kScalePointerA = 17,
  kScalePointerB = 18,
  kBiasType = 26,
  kScaleModeA = 31,  // from 12.8 on
  kScaleModeB = 32
};
enum class LayoutAttribute : int { kCols = 3 };
enum class PreferenceAttribute : int {
  kMaxWorkspaceBytes = 1,
  kReductionSchemes = 3,
  kMinAlignmentA = 5,
  kMinAlignmentB = 6,
  kMinAlignmentC = 7,
  kMinAlignmentD = 8
};

constexpr int32_t kTransposed = 1;  // cublasOperation_t
constexpr uint32_t kDefaultEpilogue = 1, kBiasEpilogue = 4;
constexpr int32_t kOuterVector = 3;           // cublasLtMatmulMatrixScale_t, from 12.9 on
constexpr uint32_t kReduceInComputeType = 2;  // partial sums of a split K are added as float32

struct Algorithm {
  uint64_t data[8];
};

struct Candidate {  // cublasLtMatmulHeuristicResult_t
  Algorithm algorithm;
  size_t workspace_bytes;
  Status status;
  float waves;
  int reserved[4];
};

/// Matrices are column-major. Named as in the library, without its prefix.
struct Library {
  Status (*Create)(Handle*);
  Status (*Destroy)(Handle);
  size_t (*GetVersion)();  // 130100 is 13.1.0
  Status (*MatmulDescCreate)(Operation*, Compute, Type scale);
  Status (*MatmulDescDestroy)(Operation);
  Status (*MatmulDescSetAttribute)(Operation, OperationAttribute, const void*, size_t);
  Status (*MatrixLayoutCreate)(Layout*, Type, uint64_t rows, uint64_t cols, int64_t leading);
  Status (*MatrixLayoutDestroy)(Layout);
  Status (*MatrixLayoutSetAttribute)(Layout, LayoutAttribute, const void*, size_t);
  Status (*MatmulPreferenceCreate)(Preference*);
  Status (*MatmulPreferenceDestroy)(Preference);
  Status (*MatmulPreferenceSetAttribute)(Preference, PreferenceAttribute, const void*, size_t);
  Status (*MatmulAlgoGetHeuristic)(Handle, Operation, Layout a, Layout b, Layout c, Layout d, Preference,
                                   int most, Candidate*, int* count);
  /// d = alpha * op(a) * b + beta * c
  Status (*Matmul)(Handle, Operation, const void* alpha, const void* a, Layout, const void* b, Layout,
                   const void* beta, const void* c, Layout, void* d, Layout, const Algorithm*,
                   void* workspace, size_t workspace_bytes, cudaStream_t);
};

/// Loaded at the first call. Throws DeviceError where there is none.
const Library& Load();

}  // namespace internvl::cuda::lt
