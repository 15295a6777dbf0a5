// The part of NCCL that is used here. Declared here and not taken from its header, so that neither a build
// nor the tests need the package of 300 MB that has it; where the header is there, nccl.cc compares.
#pragma once

#include <cuda_runtime.h>

#include <climits>
#include <cstddef>
#include <string>

namespace internvl::cuda::nccl {

using Communicator = struct CommunicatorContents*;

enum class Status : int { kSuccess = 0, kInProgress = 7 };
enum class Type : int { kFloat32 = 7 };
enum class Reduction : int { kSum = 0 };

struct Id {
  char bytes[128];
};

/// The oldest layout that there is: the library fills up what it does not know of.
struct Config {
  size_t size = sizeof(Config);
  unsigned magic = 0xcafebeef;
  unsigned version = 21400;  // of the layout: 2.14.0
  int blocking = INT_MIN;    // 0: calls return at once and GetAsyncError says how they went
};

/// Named as in the library, without its prefix.
struct Library {
  Status (*GetVersion)(int*);  // 22703 is 2.27.3
  Status (*GetUniqueId)(Id*);
  Status (*CommInitRankConfig)(Communicator*, int world, Id, int rank, Config*);
  Status (*CommGetAsyncError)(Communicator, Status*);
  /// Ends what the communicator has on the device, and the communicator.
  Status (*CommAbort)(Communicator);
  Status (*AllReduce)(const void* from, void* to, size_t count, Type, Reduction, Communicator, cudaStream_t);
  Status (*AllGather)(const void* from, void* to, size_t count, Type, Communicator, cudaStream_t);
  const char* (*GetErrorString)(Status);
  const char* (*GetLastError)(Communicator);
};

/// Loaded at the first call. Throws DeviceError where there is none, or one that is too old.
const Library& Load();

}  // namespace internvl::cuda::nccl
