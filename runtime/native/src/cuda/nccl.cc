#include "nccl.h"

#include "dynamic_library.h"

namespace internvl::cuda::nccl {
namespace {

Library LoadFunctions() {
  constexpr const char* kNames[] = {"libnccl.so.2"};
  const DynamicLibrary library("NCCL", kNames);
  Library functions{};
  library.Get("ncclGetVersion", functions.GetVersion);
  library.Get("ncclGetUniqueId", functions.GetUniqueId);
  library.Get("ncclCommInitRankConfig", functions.CommInitRankConfig);
  library.Get("ncclCommGetAsyncError", functions.CommGetAsyncError);
  library.Get("ncclCommAbort", functions.CommAbort);
  library.Get("ncclAllReduce", functions.AllReduce);
  library.Get("ncclAllGather", functions.AllGather);
  library.Get("ncclGetErrorString", functions.GetErrorString);
  library.Get("ncclGetLastError", functions.GetLastError);
  return functions;
}

}  // namespace

const Library& Load() {
  static const Library library = LoadFunctions();
  return library;
}

}  // namespace internvl::cuda::nccl

// Toolkits and NCCL's own package have the header; the compiler's packages do not.
#if __has_include(<nccl.h>)
#include <nccl.h>

namespace internvl::cuda::nccl {

static_assert(sizeof(Id) == sizeof(ncclUniqueId) &&
              offsetof(Config, magic) == offsetof(ncclConfig_t, magic) &&
              offsetof(Config, version) == offsetof(ncclConfig_t, version) &&
              offsetof(Config, blocking) == offsetof(ncclConfig_t, blocking));
static_assert(int(Status::kInProgress) == ncclInProgress && int(Type::kFloat32) == ncclFloat32 &&
              int(Reduction::kSum) == ncclSum && Config{}.magic == NCCL_API_MAGIC &&
              INT_MIN == NCCL_CONFIG_UNDEF_INT);

}  // namespace internvl::cuda::nccl
#endif
