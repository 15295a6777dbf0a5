// The processor, its threads, and the device that this thread's tensors are on.
#include <omp.h>

#include "../cpu/cpu.h"
#include "../cpu/cpu_backend.h"
#include "../cpu/memory_nodes.h"
#include "../cpu/row_math.h"
#include "../open_cuda.h"
#include "../operations.h"

namespace internvl {

Napi::Value CpuInfo(const Call& call) {
  const bool bfloat16 = HasBFloat16Matmul();
  const std::string isa = RowMathIsa();
  Napi::Object info = Napi::Object::New(call.env());
  info.Set("model", CpuModel());
  info.Set("isa", HasTiles() ? "amx" : isa == "avx512" && bfloat16 ? "avx512_bf16" : isa);
  info.Set("bfloat16Matmul", bfloat16);
  return info;
}

Napi::Value SetThreads(const Call& call) {
  const int count = static_cast<int>(call.Integer(0, "count", 1, 1024));
  omp_set_num_threads(count);
  SpreadThreads(count);
  return call.env().Undefined();
}

Napi::Value UseDevice(const Call& call) {
  const std::string kind = call.Text(0, "kind");
  const int index = static_cast<int>(call.Integer(1, "index", 0, 1024));
  Environment& environment = call.environment;
  REQUIRE(call, environment.tensors.untouched(), "this thread has made tensors already");
  REQUIRE(call, !environment.collective, "this thread has a group already: choose the device first");
  if (kind == "cpu") {
    REQUIRE(call, index == 0, "there is one cpu, at index 0, not " + std::to_string(index));
    environment.backend = std::make_unique<CpuBackend>(environment.host_memory);
  } else if (kind == "cuda") {
    environment.backend = OpenCuda(index);
  } else {
    call.FailType("kind must be cpu or cuda, not '" + kind + "'");
  }
  environment.tensors = TensorTable(environment.backend->memory(), environment.backend->arena());
  return call.env().Undefined();
}

Napi::Value Tune(const Call& call) {
  const Napi::Value on = call[0];
  if (!on.IsBoolean()) call.FailType("on must be true or false");
  const int64_t tried = call.backend().Tune(on.As<Napi::Boolean>().Value());
  return Napi::Number::New(call.env(), static_cast<double>(tried));
}

Napi::Value RowRanges(const Call& call) {
  const std::vector<int64_t> ranges = call.backend().RowRanges(call.Integer(0, "most", 0, 1 << 24));
  Napi::Array list = Napi::Array::New(call.env(), ranges.size());
  for (uint32_t i = 0; i < ranges.size(); ++i) {
    list[i] = Napi::Number::New(call.env(), static_cast<double>(ranges[i]));
  }
  return list;
}

Napi::Value DeviceInfoOf(const Call& call) {
  const DeviceInfo device = call.backend().Info();
  Napi::Object info = Napi::Object::New(call.env());
  info.Set("kind", device.kind);
  info.Set("name", device.name);
  info.Set("capability", device.capability);
  info.Set("freeBytes", static_cast<double>(device.free_bytes));
  info.Set("graphs", call.backend().can_record());
  info.Set("totalBytes", static_cast<double>(device.total_bytes));
  return info;
}

Napi::Value NanosecondsInside(const Call& call) {
  return Napi::Number::New(call.env(), static_cast<double>(call.environment.nanoseconds));
}

}  // namespace internvl
