// Submissions that wait for a picture to arrive. Bounded in number, bytes and age; what is over is given back for refusal.

import type { Request } from './wire.ts';

export interface ParkingLimits {
  readonly maxRequests: number;
  /** Of token ids. */
  readonly maxBytes: number;
  readonly maxAgeMs: number;
}

export const PARKING_LIMITS: ParkingLimits = {
  maxRequests: 256,
  maxBytes: 64 << 20,
  maxAgeMs: 30_000, // time to send some pictures over a slow line
};

/** The bound on what waits, shared by all sessions of a replica. */
export class ParkingLot {
  readonly limits: ParkingLimits;
  #requests = 0;
  #bytes = 0;

  constructor(limits: ParkingLimits = PARKING_LIMITS) {
    this.limits = limits;
  }

  get numParked(): number {
    return this.#requests;
  }

  /** Takes a place for a request; false when there is none. */
  enter(request: Request): boolean {
    const bytes = request.tokenIds.byteLength;
    if (this.#requests >= this.limits.maxRequests || this.#bytes + bytes > this.limits.maxBytes) return false;
    this.#requests += 1;
    this.#bytes += bytes;
    return true;
  }

  leave(request: Request): void {
    this.#requests -= 1;
    this.#bytes -= request.tokenIds.byteLength;
  }
}
