// Device memory that other processes open (cudaIpc*): an allocation becomes a file in memory when its handle
// is asked for, and others map it by way of /proc, as long as its owner lives.
#pragma once

namespace cuda_on_host {

/// The allocation that starts there is about to be unmapped. What others have mapped stays theirs.
void ForgetShared(const void* start);

}  // namespace cuda_on_host
