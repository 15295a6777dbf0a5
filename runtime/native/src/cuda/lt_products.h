// Products in one type through cuBLASLt, and which of its algorithms computes which shape.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "../memory.h"
#include "cublas_lt.h"

namespace internvl::cuda {

class LtProducts {
 public:
  struct Product {  // out [t, n] = x [t, k] * weight [n, k]^T + bias [n] (null: none), of the type of out
    const void* x;
    const void* weight;
    const void* bias;
    void* out;
    int64_t out_stride;  // elements from one row of out to the next
    int64_t t, n, k;
    lt::Type factors, result;
    // Of factors in float8, both or neither: what each column of out is multiplied by, and each row.
    const float* weight_scales = nullptr;
    const float* x_scales = nullptr;
  };

  /// Throws DeviceError where cuBLASLt is missing. Everything it needs is allocated here.
  LtProducts(cudaStream_t stream, MemorySource& memory);
  ~LtProducts();

  /// False where cuBLASLt has no algorithm for it. The sum is float32, the bias included, and rounded once.
  bool Run(const Product& product);

  /// While on, a shape that comes first has its algorithm chosen by time, which waits for the device and
  /// takes some hundred of its products' time; while off, by what cuBLASLt expects. For warming up.
  void Measure(bool on);
  /// Shapes that were.
  int64_t measured() const { return measured_; }
  /// Products that differ in their rows alone share an algorithm within ranges: the most rows of each range
  /// up to `most`, ascending.
  static std::vector<int64_t> RowRanges(int64_t most);

 private:
  struct Shape {
    int64_t t, n, k, out_stride;  // t: the most rows that it stands for
    lt::Type factors, result;
    bool biased, scaled;
    uint32_t alignment;
    auto operator<=>(const Shape&) const = default;
  };
  struct Plan;
  using Plans = std::list<std::pair<Shape, std::unique_ptr<Plan>>>;

  Plan& Find(const Shape& shape, const Product& product);
  std::vector<lt::Candidate> Candidates(const Shape& shape, const Plan& plan, int most) const;
  void ChooseByTime(const Shape& shape, Plan& plan, const Product& product);
  lt::Status Multiply(const Product& product, const Plan& plan, const lt::Algorithm& algorithm) const;

  const lt::Library& library_;
  const cudaStream_t stream_;
  MemorySource& memory_;
  lt::Handle handle_ = nullptr;
  Memory workspace_;
  Memory flush_;  // empty unless measuring
  int64_t measured_ = 0;
  // Least recently used plans last, bounded.
  Plans plans_;
  std::map<Shape, Plans::iterator> by_shape_;
};

}  // namespace internvl::cuda
