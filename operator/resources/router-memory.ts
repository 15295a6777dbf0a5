// How a router keeps memory; both glibc and Node read it at process start only.

/**
 * Pictures come in pieces, and are put together on the background thread. glibc takes blocks of such sizes from the kernel and gives them back one by one, and
 * a tenth of what a picture costs then goes into faults of fresh pages. With these a block is used again: up to the threshold, the largest that
 * glibc takes, blocks come from the heap, of whose free end this much stays. (Transparent huge pages make few faults too, but each may wait for the
 * kernel to make one: 40 to 60 ms where memory is fragmented.)
 */
export const ROUTER_MEMORY: Readonly<Record<string, string>> = {
  MALLOC_MMAP_THRESHOLD_: String(32 << 20),
  MALLOC_TRIM_THRESHOLD_: String(128 << 20),
  // Many short collections instead of few long ones: what a stream needs outlives a young generation of any size, and all streams wait while it is copied.
  NODE_OPTIONS: '--max-semi-space-size=4',
};
