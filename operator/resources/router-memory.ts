// How a router keeps memory; both glibc and Node read it at process start only.

/**
 * Every large request is joined in memory of its own. glibc takes blocks of pictures' size from the kernel and gives them back one by one, and most of the
 * milliseconds in which the router serves nobody then go into faults of fresh pages. With these a block is used again: up to the threshold, the largest that
 * glibc takes, blocks come from the heap, of whose free end this much stays. (Transparent huge pages make few faults too, but each may wait for the
 * kernel to make one: 40 to 60 ms where memory is fragmented.)
 */
export const ROUTER_MEMORY: Readonly<Record<string, string>> = {
  MALLOC_MMAP_THRESHOLD_: String(32 << 20),
  MALLOC_TRIM_THRESHOLD_: String(128 << 20),
  // Many short collections instead of few long ones: what a stream needs outlives a young generation of any size, and all streams wait while it is copied.
  NODE_OPTIONS: '--max-semi-space-size=4',
};
