// The module: one Environment per JavaScript thread, and the functions in contract order.
#include <chrono>
#include <cstdlib>
#include <exception>
#include <new>
#include <typeinfo>

#include "checkpoint.h"
#include "collective.h"
#include "cpu/cpu.h"
#include "cpu/cpu_backend.h"
#include "operations.h"

namespace internvl {

Environment::Environment()
    : host_arena(host_memory),
      backend(std::make_unique<CpuBackend>(host_memory)),
      tensors(backend->memory(), backend->arena()),
      files(std::make_unique<CheckpointFiles>()) {}
Environment::~Environment() = default;

namespace {

using Operation = Napi::Value (*)(const Call&);

struct Function {
  const char* name;
  Operation run;
};

constexpr Function kFunctions[] = {
    {"cpuInfo", CpuInfo},
    {"useDevice", UseDevice},
    {"deviceInfo", DeviceInfoOf},
    {"tune", Tune},
    {"rowRanges", RowRanges},
    {"setThreads", SetThreads},
    {"nanosecondsInside", NanosecondsInside},
    {"allocate", Allocate},
    {"free", Free},
    {"scratch", ScratchTensor},
    {"indices", IndicesOf},
    {"mark", Mark},
    {"release", Release},
    {"shape", Shape},
    {"dtype", DTypeOf},
    {"write", Write},
    {"readFloat32", ReadFloat32},
    {"readRow", ReadRow},
    {"startRead", StartRead},
    {"finishRead", FinishRead},
    {"memoryBytes", MemoryBytes},
    {"beginGraph", BeginGraph},
    {"endGraph", EndGraph},
    {"launchGraph", LaunchGraph},
    {"freeGraph", FreeGraph},
    {"openFile", OpenFile},
    {"closeFile", CloseFile},
    {"fileBytes", FileBytes},
    {"copyFromFile", CopyFromFile},
    {"createCollective", CreateCollective},
    {"connectCollective", ConnectCollective},
    {"closeCollective", CloseCollective},
    {"allReduce", AllReduce},
    {"allGatherColumns", AllGatherColumns},
    {"broadcast", Broadcast},
    {"swap", Swap},
    {"fillRandom", FillRandom},
    {"linear", Linear},
    {"convert", Convert},
    {"embedding", Embedding},
    {"rmsNorm", RmsNorm},
    {"layerNorm", LayerNorm},
    {"qkSumSquares", QkSumSquares},
    {"qkNorm", QkNorm},
    {"gelu", Gelu},
    {"siluMul", SiluMul},
    {"addScaled", AddScaled},
    {"addRmsNorm", AddRmsNorm},
    {"copyRows", CopyRows},
    {"gatherRows", GatherRows},
    {"resolveIds", ResolveIds},
    {"chooseTokens", ChooseTokens},
    {"drawToken", DrawToken},
    {"logSumExp", LogSumExp},
    {"topTokens", TopTokens},
    {"patchify", Patchify},
    {"visionEmbed", VisionEmbed},
    {"visionAttention", VisionAttention},
    {"pixelShuffle", PixelShuffle},
    {"resizeBicubic", ResizeBicubic},
    {"ropeAndStoreKv", RopeAndStoreKv},
    {"pagedAttention", PagedAttention},
};

/// Adds its own lifetime to a sum.
class Stopwatch {
 public:
  explicit Stopwatch(int64_t& nanoseconds) : nanoseconds_(nanoseconds) {}
  ~Stopwatch() {
    nanoseconds_ +=
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start_)
            .count();
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  int64_t& nanoseconds_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

Napi::Value Run(const Napi::CallbackInfo& info) {
  const auto& function = *static_cast<const Function*>(info.Data());
  auto& environment = *info.Env().GetInstanceData<Environment>();
  const Stopwatch stopwatch(environment.nanoseconds);
  try {
    return function.run(Call(info, environment, function.name));
  } catch (const Napi::Error&) {
    throw;
  } catch (const CollectiveFailure& error) {
    Napi::Error named = Napi::Error::New(info.Env(), error.what());
    named.Set("name", Napi::String::New(info.Env(), "CollectiveError"));
    throw named;
  } catch (const DeviceError& error) {
    Napi::Error named = Napi::Error::New(info.Env(), std::string(function.name) + ": " + error.what());
    named.Set("name", Napi::String::New(info.Env(), "DeviceError"));
    named.Set("code", Napi::String::New(info.Env(), "device"));
    throw named;
  } catch (const std::bad_alloc& error) {
    const std::string what = typeid(error) == typeid(std::bad_alloc) ? "out of memory" : error.what();
    Napi::Error named = Napi::Error::New(info.Env(), std::string(function.name) + ": " + what);
    named.Set("name", Napi::String::New(info.Env(), "OutOfMemory"));
    throw named;
  } catch (const std::exception& error) {
    throw Napi::Error::New(info.Env(), std::string(function.name) + ": " + error.what());
  }
}

Napi::Object Initialize(Napi::Env env, Napi::Object exports) {
  LimitIsa(std::getenv("INTERNVL_MAX_CPU_ISA"));
  env.SetInstanceData(new Environment());
  for (const Function& function : kFunctions) {
    exports.Set(function.name,
                Napi::Function::New(env, Run, function.name, const_cast<Function*>(&function)));
  }
  return exports;
}

NODE_API_MODULE(internvl_native, Initialize)

}  // namespace
}  // namespace internvl
