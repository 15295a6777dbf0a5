// The submissions of one session whose pictures are not all there yet.

import { status } from '@grpc/grpc-js';
import { RpcError } from '../../rpc/status.ts';
import type { Submission } from '../engine/engine.ts';
import type { ParkingLot } from './parked.ts';
import { pictureError } from './pictures.ts';
import type { Pictures } from './pictures.ts';
import type { Request } from './wire.ts';

/** What becomes of a submission that waits: exactly one of ready and reject, unless it is cancelled. */
export interface PictureWaitEvents {
  /** The router has to send this picture. */
  need(hash: string): void;
  ready(submission: Submission): void;
  reject(handle: number, error: RpcError): void;
}

interface Wait {
  readonly request: Request;
  readonly gathering: AbortController;
  /** Set while pictures have to be sent first: it then takes a place in the parking lot. */
  readonly timer: NodeJS.Timeout | undefined;
}

/** Holds submissions until their pictures are there, within the bounds of the parking lot. */
export class PictureWaits {
  readonly #pictures: Pictures;
  readonly #parking: ParkingLot;
  readonly #events: PictureWaitEvents;
  readonly #waits = new Map<number, Wait>();

  constructor(
    { pictures, parking }: { readonly pictures: Pictures; readonly parking: ParkingLot },
    events: PictureWaitEvents,
  ) {
    this.#pictures = pictures;
    this.#parking = parking;
    this.#events = events;
  }

  has(handle: number): boolean {
    return this.#waits.has(handle);
  }

  handles(): IterableIterator<number> {
    return this.#waits.keys();
  }

  /** Takes a submission with pictures, and asks for those that are not there. */
  add(request: Request): void {
    const { handle } = request;
    const hashes = request.images.map(({ hash }) => hash);
    const missing = new Set(hashes.filter((hash) => !this.#pictures.has(hash)));
    if (missing.size > 0 && !this.#parking.enter(request)) {
      const message = 'too many submissions wait for pictures';
      this.#events.reject(
        handle,
        new RpcError(status.RESOURCE_EXHAUSTED, 'TOO_MANY_WAITING_FOR_IMAGES', message),
      );
      return;
    }
    const gathering = new AbortController();
    const timer =
      missing.size > 0
        ? setTimeout(() => this.#giveUp(handle, hashes), this.#parking.limits.maxAgeMs)
        : undefined;
    this.#waits.set(handle, { request, gathering, timer });
    for (const hash of missing) this.#events.need(hash);
    void this.#gather(request, hashes, gathering);
  }

  /** Stops waiting; false when the handle was not waiting. */
  cancel(handle: number): boolean {
    const wait = this.#waits.get(handle);
    if (!wait) return false;
    this.#waits.delete(handle);
    if (wait.timer) {
      clearTimeout(wait.timer);
      this.#parking.leave(wait.request);
    }
    wait.gathering.abort();
    return true;
  }

  cancelAll(): void {
    for (const handle of this.#waits.keys()) this.cancel(handle);
  }

  async #gather(request: Request, hashes: readonly string[], gathering: AbortController): Promise<void> {
    const { handle } = request;
    let pixels: Uint8Array[];
    try {
      pixels = await this.#pictures.gather(hashes, gathering.signal);
    } catch (err) {
      if (!this.#endWait(handle, gathering)) return;
      const error = pictureError(err);
      const known =
        error instanceof RpcError
          ? error
          : new RpcError(status.INTERNAL, 'INTERNAL', 'a picture could not be prepared', { cause: err });
      this.#events.reject(handle, known);
      return;
    }
    if (!this.#endWait(handle, gathering)) return;
    const images = request.images.map((image, index) => ({ ...image, pixels: pixels[index]! }));
    this.#events.ready({ ...request, images });
  }

  // The handle may have been cancelled meanwhile, and even be waiting again for another submission.
  #endWait(handle: number, gathering: AbortController): boolean {
    return this.#waits.get(handle)?.gathering === gathering && this.cancel(handle);
  }

  #giveUp(handle: number, hashes: readonly string[]): void {
    const missing = hashes.filter((hash) => !this.#pictures.has(hash)).join(', ');
    if (!this.cancel(handle)) return;
    const message = `the pictures ${missing} were not sent within ${this.#parking.limits.maxAgeMs} ms`;
    this.#events.reject(handle, new RpcError(status.FAILED_PRECONDITION, 'IMAGE_NOT_SENT', message));
  }
}
