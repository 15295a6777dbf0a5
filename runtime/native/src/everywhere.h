// Functions that kernels share with the host.
#pragma once

#ifdef __CUDACC__
#define INTERNVL_EVERYWHERE __host__ __device__
#else
#define INTERNVL_EVERYWHERE
#endif
