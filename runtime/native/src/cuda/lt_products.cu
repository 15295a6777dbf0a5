#include <algorithm>
#include <bit>
#include <string>

#include "launch.h"
#include "lt_products.h"
#include "time_candidates.h"

namespace internvl::cuda {
namespace {

/// What NVIDIA recommends for Hopper; older devices' algorithms take less.
constexpr size_t kWorkspaceBytes = size_t{32} << 20;
constexpr size_t kMostPlans = 512;
constexpr int kMostCandidates = 12;
/// Beyond this no algorithm asks for more.
constexpr uint32_t kMostAlignment = 64;

void CheckLt(lt::Status status, const char* what) {
  if (status == lt::Status::kSuccess) return;
  throw DeviceError(std::string(what) + ": cuBLAS status " + std::to_string(static_cast<int>(status)));
}

/// Steps differ in rows by a few: one algorithm serves a range of them, the finer the more it matters.
int64_t MostOfItsRange(int64_t t) {
  const int64_t step = t <= 64 ? 16 : t <= 512 ? 64 : t <= 4096 ? 256 : 1024;
  return (t + step - 1) / step * step;
}

uint32_t Alignment(std::initializer_list<const void*> pointers) {
  uintptr_t bits = kMostAlignment;
  for (const void* pointer : pointers) bits |= reinterpret_cast<uintptr_t>(pointer);
  return uint32_t{1} << std::countr_zero(bits);
}

}  // namespace

/// The descriptions of a shape's operands as cuBLASLt sees them, column-major: out^T [n, t] = weight [k, n]^T
/// times x [k, t].
struct LtProducts::Plan {
  explicit Plan(const lt::Library& library) : library(library) {}
  ~Plan() {
    if (operation != nullptr) library.MatmulDescDestroy(operation);
    for (lt::Layout layout : {weight, x, out}) {
      if (layout != nullptr) library.MatrixLayoutDestroy(layout);
    }
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  void SetRows(int64_t t) {
    const auto cols = static_cast<uint64_t>(t);
    CheckLt(library.MatrixLayoutSetAttribute(x, lt::LayoutAttribute::kCols, &cols, sizeof(cols)),
            "columns of x");
    CheckLt(library.MatrixLayoutSetAttribute(out, lt::LayoutAttribute::kCols, &cols, sizeof(cols)),
            "columns of the product");
  }

  template <typename T>
  lt::Status Set(lt::OperationAttribute attribute, const T& value) const {
    return library.MatmulDescSetAttribute(operation, attribute, &value, sizeof(value));
  }

  void SetAddresses(const Product& product) {
    using enum lt::OperationAttribute;
    if (product.bias != nullptr) CheckLt(Set(kBiasPointer, product.bias), "address of the bias");
    if (product.x_scales != nullptr) {
      CheckLt(Set(kScalePointerA, product.weight_scales), "address of the weight's scales");
      CheckLt(Set(kScalePointerB, product.x_scales), "address of the scales of x");
    }
  }

  /// False where the library is too old.
  bool ScaleByVectors() {
    using enum lt::OperationAttribute;
    return Set(kScaleModeA, lt::kOuterVector) == lt::Status::kSuccess &&
           Set(kScaleModeB, lt::kOuterVector) == lt::Status::kSuccess;
  }

  const lt::Library& library;
  lt::Operation operation = nullptr;
  lt::Layout weight = nullptr, x = nullptr, out = nullptr;
  bool found = false, measured = false;
  lt::Algorithm algorithm{};
};

LtProducts::LtProducts(cudaStream_t stream, MemorySource& memory)
    : library_(lt::Load()), stream_(stream), memory_(memory), workspace_(memory, kWorkspaceBytes) {
  CheckLt(library_.Create(&handle_), "cublasLtCreate");
}

LtProducts::~LtProducts() {
  if (handle_ != nullptr) library_.Destroy(handle_);
}

void LtProducts::Measure(bool on) { flush_ = on ? Memory(memory_, BytesToFlush()) : Memory(); }

std::vector<int64_t> LtProducts::RowRanges(int64_t most) {
  std::vector<int64_t> ranges;
  for (int64_t t = 1; t <= most; t = ranges.back() + 1) ranges.push_back(std::min(MostOfItsRange(t), most));
  return ranges;
}

bool LtProducts::Run(const Product& product) {
  Shape shape{.t = MostOfItsRange(product.t),
              .n = product.n,
              .k = product.k,
              .out_stride = product.out_stride,
              .factors = product.factors,
              .result = product.result,
              .biased = product.bias != nullptr,
              .scaled = product.x_scales != nullptr,
              .alignment = Alignment({product.x, product.weight, product.out, product.bias})};
  // Once more for the exact number of rows, where the algorithm of the range does not take it.
  for (const int64_t t : {shape.t, product.t}) {
    shape.t = t;
    Plan& plan = Find(shape, product);
    if (!plan.found && shape.scaled) break;  // whether scales are taken does not depend on the rows
    if (!plan.found) continue;
    plan.SetAddresses(product);
    plan.SetRows(product.t);
    if (flush_.data() != nullptr && !plan.measured) ChooseByTime(shape, plan, product);
    const lt::Status status = Multiply(product, plan, plan.algorithm);
    if (status == lt::Status::kSuccess) return true;
    // Some versions say so of scales that they do not take.
    if (shape.scaled && status == lt::Status::kInvalidValue) continue;
    if (status != lt::Status::kNotSupported) CheckLt(status, "cublasLtMatmul");
  }
  return false;
}

LtProducts::Plan& LtProducts::Find(const Shape& shape, const Product& product) {
  const auto known = by_shape_.find(shape);
  if (known != by_shape_.end()) {
    plans_.splice(plans_.begin(), plans_, known->second);
    return *known->second->second;
  }
  auto plan = std::make_unique<Plan>(library_);
  const auto rows = static_cast<uint64_t>(shape.t), columns = static_cast<uint64_t>(shape.n),
             depth = static_cast<uint64_t>(shape.k);
  CheckLt(library_.MatmulDescCreate(&plan->operation, lt::Compute::kFloat32, lt::Type::kFloat32), "product");
  using enum lt::OperationAttribute;
  CheckLt(plan->Set(kTransposeA, lt::kTransposed), "product's layout");
  if (shape.biased) {
    CheckLt(plan->Set(kEpilogue, lt::kBiasEpilogue), "product's bias");
    CheckLt(plan->Set(kBiasType, shape.result), "product's bias");
  }
  const bool takes = !shape.scaled || plan->ScaleByVectors();
  plan->SetAddresses(product);  // without those of scales nothing is proposed
  CheckLt(library_.MatrixLayoutCreate(&plan->weight, shape.factors, depth, columns, shape.k), "weight");
  CheckLt(library_.MatrixLayoutCreate(&plan->x, shape.factors, depth, rows, shape.k), "x");
  CheckLt(library_.MatrixLayoutCreate(&plan->out, shape.result, columns, rows, shape.out_stride), "out");
  if (const auto candidates = Candidates(shape, *plan, 1); takes && !candidates.empty()) {
    plan->found = true;
    plan->algorithm = candidates[0].algorithm;
  }
  if (plans_.size() == kMostPlans) {
    by_shape_.erase(plans_.back().first);
    plans_.pop_back();
  }
  plans_.emplace_front(shape, std::move(plan));
  by_shape_.emplace(shape, plans_.begin());
  return *plans_.front().second;
}

std::vector<lt::Candidate> LtProducts::Candidates(const Shape& shape, const Plan& plan, int most) const {
  lt::Preference preference = nullptr;
  CheckLt(library_.MatmulPreferenceCreate(&preference), "preference");
  const auto set = [&](lt::PreferenceAttribute attribute, const auto& value) {
    CheckLt(library_.MatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
            "preference");
  };
  const auto bytes = static_cast<uint64_t>(workspace_.bytes());
  set(lt::PreferenceAttribute::kMaxWorkspaceBytes, bytes);
  // Other schemes add the parts of a split K in the type of the result: rounded more than once.
  set(lt::PreferenceAttribute::kReductionSchemes, lt::kReduceInComputeType);
  for (auto operand : {lt::PreferenceAttribute::kMinAlignmentA, lt::PreferenceAttribute::kMinAlignmentB,
                       lt::PreferenceAttribute::kMinAlignmentC, lt::PreferenceAttribute::kMinAlignmentD}) {
    set(operand, shape.alignment);
  }
  std::vector<lt::Candidate> candidates(static_cast<size_t>(most));
  int count = 0;
  const lt::Status status =
      library_.MatmulAlgoGetHeuristic(handle_, plan.operation, plan.weight, plan.x, plan.out, plan.out,
                                      preference, most, candidates.data(), &count);
  library_.MatmulPreferenceDestroy(preference);
  candidates.resize(status == lt::Status::kSuccess ? static_cast<size_t>(count) : 0);
  std::erase_if(candidates, [](const lt::Candidate& one) { return one.status != lt::Status::kSuccess; });
  return candidates;
}

void LtProducts::ChooseByTime(const Shape& shape, Plan& plan, const Product& product) {
  cudaStreamCaptureStatus capture;
  Check(cudaStreamIsCapturing(stream_, &capture), "cudaStreamIsCapturing");
  if (capture != cudaStreamCaptureStatusNone) return;
  plan.measured = true;
  ++measured_;
  const auto candidates = Candidates(shape, plan, kMostCandidates);
  const size_t best = FastestOf(candidates.size(), stream_, flush_, [&](size_t i) {
    return Multiply(product, plan, candidates[i].algorithm) == lt::Status::kSuccess;
  });
  if (best < candidates.size()) plan.algorithm = candidates[best].algorithm;
}

lt::Status LtProducts::Multiply(const Product& product, const Plan& plan,
                                const lt::Algorithm& algorithm) const {
  constexpr float kOne = 1.0f, kZero = 0.0f;
  return library_.Matmul(handle_, plan.operation, &kOne, product.weight, plan.weight, product.x, plan.x,
                         &kZero, product.out, plan.out, product.out, plan.out, &algorithm, workspace_.data(),
                         workspace_.bytes(), stream_);
}

}  // namespace internvl::cuda
