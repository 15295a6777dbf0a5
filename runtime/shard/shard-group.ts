// Rank 0's side of the tensor-parallel group: gathers the ranks, starts them together, gives every plan to all of them and watches that
// they live, get on and agree. The first rank that does not takes the whole group down.

import type { Logger } from '../../rpc/log.ts';
import { PreflightExtent } from '../../gen/proto/internvl/shard/v1/shard.ts';
import type { JoinResponse } from '../../gen/proto/internvl/shard/v1/shard.ts';
import type { Joined } from '../engine-thread/messages.ts';
import { fromWireFacts } from '../preflight/facts-codec.ts';
import type { Backend, Extent } from '../preflight/measurement.ts';
import type { RankFacts } from '../preflight/rank-facts.ts';
import { reportOf } from '../preflight/report.ts';
import type { PreflightReport } from '../preflight/report.ts';
import { GroupLost } from './group-lost.ts';
import type { RankIdentity } from './identity.ts';
import { PlanHashes } from './plan-hashes.ts';
import { RankLink } from './rank-link.ts';
import { HEARTBEAT_INTERVAL_MS } from './rank-thread.ts';
import type { RankThread } from './rank-thread.ts';

export interface ShardGroupOptions {
  readonly thread: RankThread;
  /** Rank 0's own. */
  readonly identity: RankIdentity;
  /** Rank 0's own. */
  readonly facts: RankFacts;
  /** gRPC addresses by rank; rank 0's is not used. */
  readonly addresses: readonly string[];
  readonly epoch: string;
  readonly hangTimeoutMs: number;
  /** How long the other ranks may take to come up. */
  readonly joinTimeoutMs?: number;
  readonly logger: Logger;
  /** Called once, at any time after construction. */
  readonly onLost: (error: Error) => void;
}

const JOIN_TIMEOUT_MS = 10 * 60_000; // pods of a group come up as nodes and images allow
const JOIN_RETRY_MS = 250;
const MISSING_LOG_INTERVAL_MS = 5_000;
const BLAME_MS = 250;
const READY_TIMEOUT_MS = 5 * 60_000; // allocating a large KV cache
const MOST_PATH_CHARACTERS = 64;
const EXTENTS = { quick: PreflightExtent.QUICK, full: PreflightExtent.FULL } as const;

interface JoinedRank extends Joined {
  readonly facts: RankFacts | undefined;
}

/** The group while it starts and lives. */
export class ShardGroup {
  readonly #options: ShardGroupOptions;
  readonly #links: readonly RankLink[];
  readonly #hashes: PlanHashes;
  #joined: readonly JoinedRank[] = [];
  #closed = false;

  constructor(options: ShardGroupOptions) {
    this.#options = options;
    this.#links = options.addresses.slice(1).map((address, index) => new RankLink(index + 1, address));
    this.#hashes = new PlanHashes(this.#links.length);
  }

  /** Joins every rank, waiting for those that are not up; returns the KV blocks that every rank has memory for. Throws GroupMismatch or GroupLost. */
  async join(): Promise<number> {
    const { identity, epoch, thread, facts } = this.#options;
    const own = await thread.join();
    const others = await Promise.all(this.#untilJoined(epoch, identity));
    this.#joined = [{ ...own, facts }, ...others.map(joinedRank)];
    return Math.min(...this.#joined.map(({ maxKvBlocks }) => maxKvBlocks));
  }

  /** Connects the ranks and measures their links, before anything is loaded; throws GroupLost. */
  async preflight(extent: Extent): Promise<PreflightReport> {
    const { thread, epoch } = this.#options;
    const [own, ...others] = await Promise.all([
      thread.preflight(this.#peerAddresses(0), extent).catch((err: unknown) => {
        // Of a rank that is gone its own call says so, a moment before or after the links do.
        throw new GroupLost(0, `failed its preflight: ${(err as Error).message}`, { cause: err });
      }),
      ...this.#links.map((link) =>
        link.preflight({
          groupEpoch: epoch,
          peerAddresses: this.#peerAddresses(link.rank).map((address) => Buffer.from(address)),
          extent: EXTENTS[extent],
        }),
      ),
    ]);
    const words = [own, ...others].map(({ backend: named, paths }, rank) => {
      const backend: Backend = named === 'cuda' ? 'cuda' : 'cpu';
      const bounded = paths.slice(0, this.#joined.length).map((path) => path.slice(0, MOST_PATH_CHARACTERS));
      return { facts: this.#joined[rank]?.facts, backend, paths: bounded };
    });
    return reportOf(words, own);
  }

  /** Loads the weights on every rank at once; throws GroupLost or what rank 0's own load throws. */
  async load(): Promise<{ readonly bytes: number }> {
    const [own] = await Promise.all([
      this.#options.thread.load(),
      ...this.#links.map((link) => link.load(this.#options.epoch)),
    ]);
    return own;
  }

  /** Connects the collective and allocates the KV cache on every rank; from then on plans flow. */
  async start(kvBlocks: number): Promise<void> {
    const { thread, epoch, hangTimeoutMs } = this.#options;
    const ready = this.#links.map(
      (link) =>
        new Promise<void>((resolve) => {
          link.open(hangTimeoutMs, {
            onReady: resolve,
            onStepDone: ({ step, planHash }) => this.#compare(link.rank, step, planHash),
            onLost: (error) => this.#lost(error),
            onSuspect: (error) => this.suspect(error),
          });
        }),
    );
    thread.listen({
      onPlan: (_step, bytes) => {
        for (const link of this.#links) link.sendPlan(bytes);
      },
      onStepDone: ({ step, planHash }) => this.#compare(0, step, planHash),
      onFatal: () => undefined, // whoever owns the thread has it
    });
    for (const link of this.#links) {
      const peerAddresses = this.#peerAddresses(link.rank).map((address) => Buffer.from(address));
      link.send({ message: { $case: 'start', value: { groupEpoch: epoch, kvBlocks, peerAddresses } } });
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new GroupLost(0, `not every rank was ready within ${READY_TIMEOUT_MS} ms`)),
        READY_TIMEOUT_MS,
      );
    });
    try {
      await Promise.race([Promise.all([thread.start(kvBlocks, this.#peerAddresses(0)), ...ready]), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * The collective failed, as the engine thread of this rank or another saw it. Which rank is to blame shows when its Control stream breaks,
   * a moment later, or by its silence; if neither, `error` stands.
   */
  suspect(error: Error): void {
    setTimeout(() => {
      const silent = this.#links.find((link) => link.silentMs() > 2 * HEARTBEAT_INTERVAL_MS);
      if (!silent) this.#lost(error);
      else {
        const silence = `sent no heartbeat for ${Math.round(silent.silentMs())} ms`;
        this.#lost(new GroupLost(silent.rank, `${silence}: ${error.message}`, { cause: error }));
      }
    }, BLAME_MS);
  }

  /** Ends the group; orderly tells the ranks that this is planned. */
  close(orderly: boolean): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const link of this.#links) link.close(orderly);
  }

  #untilJoined(epoch: string, identity: RankIdentity): Promise<JoinResponse>[] {
    const { joinTimeoutMs = JOIN_TIMEOUT_MS, logger } = this.#options;
    const giveUpAt = performance.now() + joinTimeoutMs;
    const missing = new Map(this.#links.map((link) => [link.rank, link.address]));
    let loggedAt = performance.now();
    return this.#links.map(async (link) => {
      for (;;) {
        const response = await link.join({ ...identity, groupEpoch: epoch, rank: link.rank });
        if (response) {
          missing.delete(link.rank);
          return response;
        }
        const now = performance.now();
        if (now > giveUpAt) throw new GroupLost(link.rank, `did not come up at ${link.address}`);
        if (this.#closed) throw new GroupLost(link.rank, 'the group was closed');
        if (now - loggedAt > MISSING_LOG_INTERVAL_MS) {
          loggedAt = now;
          logger.warn('waiting for ranks', { missing: Object.fromEntries(missing) });
        }
        await new Promise((resolve) => setTimeout(resolve, JOIN_RETRY_MS));
      }
    });
  }

  /** Where `rank` finds each of its peers: what peer j opened for it. */
  #peerAddresses(rank: number): readonly Uint8Array[] {
    return this.#joined.map(({ addresses }) => addresses[rank] ?? new Uint8Array());
  }

  #compare(rank: number, step: number, planHash: number): void {
    const differing = this.#hashes.report(rank, step, planHash);
    if (differing) this.#lost(new GroupLost(differing.rank, differing.problem));
  }

  #lost(error: Error): void {
    if (this.#closed) return;
    this.close(false);
    this.#options.onLost(error);
  }
}

function joinedRank({ collectiveAddresses, maxKvBlocks, facts }: JoinResponse): JoinedRank {
  return { addresses: collectiveAddresses, maxKvBlocks, facts: fromWireFacts(facts) };
}
