// Machines whose memory is near some cores and far from others (NUMA). A page lies at the node whose core
// touches it first. Loading and multiplying cut a weight into the same parts for the same threads, so a
// thread that stays at its node reads what is near.
#pragma once

namespace internvl {

/// Ties each of the calling thread's `count` OpenMP threads to the cores of one node, neighbours together and
/// as many at each node as it has of the process's cores. With one node, or one thread, they go where the
/// system puts them. Within a node they are never tied: other threads and processes need cores too.
void SpreadThreads(int count);

}  // namespace internvl
