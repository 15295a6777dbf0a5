// What the host and running kernels tell each other of a group that is lost, in pinned memory.
#pragma once

#include <cstdint>

namespace internvl::cuda {

struct LossWords {
  uint32_t stop;     // host to kernels: not 0: do not wait any longer
  uint32_t missing;  // kernels to host: 1 + the rank that did not come; 0: none
};

}  // namespace internvl::cuda
