// Where rank 0 of a preflight learns the addresses of the others, and tells them the result.

import { status } from '@grpc/grpc-js';
import type { ServerUnaryCall } from '@grpc/grpc-js';
import type {
  AnnounceRequest,
  AnnounceResponse,
  RendezvousServer,
} from '../../gen/proto/internvl/shard/v1/rendezvous.ts';
import { parseAddress } from '../../rpc/address.ts';
import { answer } from '../../rpc/guard.ts';
import { RpcError } from '../../rpc/status.ts';
import { SHARD_VERSION } from '../shard/identity.ts';
import { PreflightError } from './preflight-error.ts';

/** Collects an address of every other rank; each of them waits until the result is told. */
export class Rendezvous {
  readonly #worldSize: number;
  readonly #addresses = new Map<number, string>();
  #tell: (report: string) => void = () => undefined;
  #fail: (error: Error) => void = () => undefined;
  #complete: () => void = () => undefined;
  readonly #result = new Promise<string>((resolve, reject) => {
    this.#tell = resolve;
    this.#fail = reject;
  });
  readonly #all = new Promise<void>((resolve) => (this.#complete = resolve));

  constructor(worldSize: number) {
    this.#worldSize = worldSize;
    this.#result.catch(() => undefined); // with nobody waiting it is nobody's loss
  }

  get implementation(): RendezvousServer {
    return {
      announce: answer((call: ServerUnaryCall<AnnounceRequest, AnnounceResponse>) =>
        this.#announce(call.request),
      ),
    };
  }

  /** The addresses of ranks 1 and up; throws PreflightError when they are not all there in time. */
  async addresses(waitMs: number): Promise<string[]> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new PreflightError(this.#missing(waitMs))), waitMs);
    });
    try {
      await Promise.race([this.#all, late]);
    } finally {
      clearTimeout(timer);
    }
    return this.#others().map((rank) => this.#addresses.get(rank) ?? '');
  }

  /** Answers everybody who waits. */
  tell(report: string): void {
    this.#tell(report);
  }

  /** Ends the wait of everybody with this. */
  fail(error: Error): void {
    this.#fail(new RpcError(status.ABORTED, 'PREFLIGHT_FAILED', error.message));
  }

  async #announce({ rank, worldSize, address, version }: AnnounceRequest): Promise<AnnounceResponse> {
    const refuse = (why: string): never => {
      throw new RpcError(status.FAILED_PRECONDITION, 'GROUP_MISMATCH', why);
    };
    if (version !== SHARD_VERSION)
      refuse(`version differs: rank 0 has ${SHARD_VERSION}, rank ${rank} has ${version}`);
    if (worldSize !== this.#worldSize)
      refuse(`world size differs: rank 0 has ${this.#worldSize}, rank ${rank} has ${worldSize}`);
    if (rank < 1 || rank >= worldSize) refuse(`rank ${rank} is none of 1 to ${worldSize - 1}`);
    if (this.#addresses.has(rank))
      refuse(`rank ${rank} is there already: give each rank a number of its own`);
    try {
      parseAddress(address);
    } catch (err) {
      refuse((err as Error).message);
    }
    this.#addresses.set(rank, address);
    if (this.#addresses.size === this.#worldSize - 1) this.#complete();
    return { report: await this.#result };
  }

  #others(): number[] {
    return Array.from({ length: this.#worldSize - 1 }, (_, index) => index + 1);
  }

  #missing(waitMs: number): string {
    const missing = this.#others().filter((rank) => !this.#addresses.has(rank));
    const ranks = `${missing.length === 1 ? 'rank' : 'ranks'} ${missing.join(', ')}`;
    return `${ranks} did not come within ${waitMs / 1000} s: start each with the same --world-size and --leader`;
  }
}
