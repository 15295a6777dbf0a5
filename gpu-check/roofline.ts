// The least time that work can take on a device, by what the device was measured to do: pure arithmetic.

/** Of one device, as measured beside the work. */
export interface DeviceSpeed {
  /** Read and written together, by a copy within its memory. */
  readonly bytesPerSecond: number;
  /** Of a large bfloat16 product. */
  readonly flopsPerSecond: number;
}

/** What has to be read at least once, and computed. */
export interface Work {
  readonly bytes: number;
  readonly flops: number;
}

/** Seconds: memory and arithmetic work at the same time, and the slower decides. */
export function leastSeconds({ bytes, flops }: Work, speed: DeviceSpeed): number {
  return Math.max(bytes / speed.bytesPerSecond, flops / speed.flopsPerSecond);
}
