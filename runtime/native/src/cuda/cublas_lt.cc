#include "cublas_lt.h"

#include "dynamic_library.h"

namespace internvl::cuda::lt {

namespace {

Library LoadFunctions() {
  // The version that this was built for first: the other may want a newer driver.
#if CUDART_VERSION >= 13000
  constexpr const char* kNames[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
#else
  constexpr const char* kNames[] = {"libcublasLt.so.12", "libcublasLt.so.13"};
#endif
  const DynamicLibrary library("cuBLASLt", kNames);
  Library functions{};
  library.Get("cublasLtCreate", functions.Create);
  library.Get("cublasLtDestroy", functions.Destroy);
  library.Get("cublasLtGetVersion", functions.GetVersion);
  library.Get("cublasLtMatmulDescCreate", functions.MatmulDescCreate);
  library.Get("cublasLtMatmulDescDestroy", functions.MatmulDescDestroy);
  library.Get("cublasLtMatmulDescSetAttribute", functions.MatmulDescSetAttribute);
  library.Get("cublasLtMatrixLayoutCreate", functions.MatrixLayoutCreate);
  library.Get("cublasLtMatrixLayoutDestroy", functions.MatrixLayoutDestroy);
  library.Get("cublasLtMatrixLayoutSetAttribute", functions.MatrixLayoutSetAttribute);
  library.Get("cublasLtMatmulPreferenceCreate", functions.MatmulPreferenceCreate);
  library.Get("cublasLtMatmulPreferenceDestroy", functions.MatmulPreferenceDestroy);
  library.Get("cublasLtMatmulPreferenceSetAttribute", functions.MatmulPreferenceSetAttribute);
  library.Get("cublasLtMatmulAlgoGetHeuristic", functions.MatmulAlgoGetHeuristic);
  library.Get("cublasLtMatmul", functions.Matmul);
  return functions;
}

}  // namespace

const Library& Load() {
  static const Library library = LoadFunctions();
  return library;
}

}  // namespace internvl::cuda::lt

// A toolkit has the header; the compiler's own packages do not.
#if __has_include(<cublasLt.h>)
#include <cublasLt.h>

namespace internvl::cuda::lt {

static_assert(sizeof(Candidate) == sizeof(cublasLtMatmulHeuristicResult_t) &&
              offsetof(Candidate, workspace_bytes) ==
                  offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize) &&
              offsetof(Candidate, status) == offsetof(cublasLtMatmulHeuristicResult_t, state) &&
              sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t));
static_assert(int(Status::kNotSupported) == CUBLAS_STATUS_NOT_SUPPORTED &&
              int(Status::kInvalidValue) == CUBLAS_STATUS_INVALID_VALUE &&
              int(Type::kFloat8) == CUDA_R_8F_E4M3 && int(Type::kFloat32) == CUDA_R_32F &&
              int(Type::kBFloat16) == CUDA_R_16BF && int(Compute::kFloat32) == CUBLAS_COMPUTE_32F &&
              kTransposed == CUBLAS_OP_T);
static_assert(int(OperationAttribute::kTransposeA) == CUBLASLT_MATMUL_DESC_TRANSA &&
              int(OperationAttribute::kEpilogue) == CUBLASLT_MATMUL_DESC_EPILOGUE &&
              int(OperationAttribute::kBiasPointer) == CUBLASLT_MATMUL_DESC_BIAS_POINTER &&
              int(OperationAttribute::kBiasType) == CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE &&
              int(OperationAttribute::kScalePointerA) == CUBLASLT_MATMUL_DESC_A_SCALE_POINTER &&
              int(OperationAttribute::kScalePointerB) == CUBLASLT_MATMUL_DESC_B_SCALE_POINTER &&
              int(LayoutAttribute::kCols) == CUBLASLT_MATRIX_LAYOUT_COLS &&
              kDefaultEpilogue == CUBLASLT_EPILOGUE_DEFAULT && kBiasEpilogue == CUBLASLT_EPILOGUE_BIAS);
static_assert(int(PreferenceAttribute::kMaxWorkspaceBytes) == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES &&
              int(PreferenceAttribute::kReductionSchemes) == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK &&
              int(PreferenceAttribute::kMinAlignmentA) == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES &&
              int(PreferenceAttribute::kMinAlignmentB) == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES &&
              int(PreferenceAttribute::kMinAlignmentC) == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES &&
              int(PreferenceAttribute::kMinAlignmentD) == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES &&
              kReduceInComputeType == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
#if CUBLAS_VERSION >= 120900
static_assert(int(OperationAttribute::kScaleModeA) == CUBLASLT_MATMUL_DESC_A_SCALE_MODE &&
              int(OperationAttribute::kScaleModeB) == CUBLASLT_MATMUL_DESC_B_SCALE_MODE &&
              kOuterVector == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
#endif

}  // namespace internvl::cuda::lt
#endif
