// The shard protocol over real sockets, with engine threads that only pretend: what ranks agree on, and what ends a group.

import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import {
  ShardService as shardDefinition,
  LeaderMessage,
} from '../../../gen/proto/internvl/shard/v1/shard.ts';
import { createLogger } from '../../../rpc/log.ts';
import { createServer } from '../../../rpc/server.ts';
import { EngineThreadError } from '../../../runtime/engine-thread/engine-thread.ts';
import type { EngineThreadEvents } from '../../../runtime/engine-thread/engine-thread.ts';
import type { Joined } from '../../../runtime/engine-thread/messages.ts';
import { gatherFacts } from '../../../runtime/preflight/facts.ts';
import type { Measured } from '../../../runtime/preflight/measurement.ts';
import type { RankIdentity } from '../../../runtime/shard/identity.ts';
import { toWirePlan } from '../../../runtime/shard/plan-codec.ts';
import type { RankThread } from '../../../runtime/shard/rank-thread.ts';
import { ShardGroup } from '../../../runtime/shard/shard-group.ts';
import { ShardService } from '../../../runtime/shard/shard-service.ts';

const descriptors = readFileSync(new URL('../../../gen/descriptors.binpb', import.meta.url));
const logger = createLogger({ level: 'error', format: 'json' });
const cleanups: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

/** An engine thread that answers at once; hashOf says what it makes of a step, undefined = it never finishes it. */
class PretendThread implements RankThread {
  progress = 0;
  linksFail: string | undefined;
  started: { kvBlocks: number; peers: string[] } | undefined;
  readonly #rank: number;
  readonly #events: EngineThreadEvents[] = [];
  readonly #hashOf: (step: number) => number | undefined;

  constructor(rank: number, hashOf: (step: number) => number | undefined = (step) => step * 7) {
    this.#rank = rank;
    this.#hashOf = hashOf;
  }

  listen(events: EngineThreadEvents): void {
    this.#events.push(events);
  }

  join(): Promise<Joined> {
    const addresses = [0, 1, 2].map((peer) =>
      peer === this.#rank ? new Uint8Array() : Buffer.from(`${this.#rank}for${peer}`),
    );
    return Promise.resolve({ addresses, maxKvBlocks: 100 - this.#rank });
  }

  load(): Promise<{ bytes: number }> {
    for (const events of this.#events) events.onLoadProgress?.({ loadedBytes: 5, totalBytes: 10 });
    return Promise.resolve({ bytes: 10 });
  }

  preflight(): Promise<Measured> {
    if (this.linksFail !== undefined) return Promise.reject(new Error(this.linksFail));
    return Promise.resolve({
      backend: 'cpu',
      paths: [0, 1, 2].map((peer) => (peer === this.#rank ? '' : 'TCP')),
      leftOut: '',
      measurement: { pairs: [], reduces: [] },
    });
  }

  start(kvBlocks: number, peerAddresses: readonly Uint8Array[]): Promise<void> {
    this.started = { kvBlocks, peers: peerAddresses.map((address) => Buffer.from(address).toString()) };
    return Promise.resolve();
  }

  plan({ step }: { step: number }): void {
    const planHash = this.#hashOf(step);
    if (planHash === undefined) return;
    this.progress += 1;
    for (const events of this.#events) events.onStepDone?.({ step, planHash, computeUs: 1 });
  }

  /** Rank 0's loop makes a step. */
  lead(step: number): void {
    const plan = {
      step,
      sequences: [],
      finished: [],
      preempted: [],
      freeImages: [],
      encodeImages: [],
      imageRows: [],
    };
    const bytes = LeaderMessage.encode({ message: { $case: 'stepPlan', value: toWirePlan(plan) } }).finish();
    for (const events of this.#events) events.onPlan?.(step, bytes);
    this.plan({ step });
  }

  die(code: string): void {
    const fault = { name: 'Error', code, message: 'it died', stack: undefined };
    for (const events of this.#events) events.onFatal(new EngineThreadError(fault));
  }
}

function identity(rank: number): RankIdentity {
  return {
    rank,
    worldSize: 3,
    modelFingerprint: 'abc',
    dtype: 'float32',
    quantization: 'none',
    kvCacheDtype: 'auto',
    blockSize: 16,
    maxModelLength: 128,
    version: '1',
  };
}

interface Rank {
  readonly address: string;
  readonly thread: PretendThread;
  readonly ended: Promise<Error | undefined>;
}

async function serveRank(
  rank: number,
  hashOf?: (step: number) => number | undefined,
  own: Partial<RankIdentity> = {},
): Promise<Rank> {
  const thread = new PretendThread(rank, hashOf);
  let end: (lost: Error | undefined) => void = () => undefined;
  const ended = new Promise<Error | undefined>((resolve) => (end = resolve));
  const service = new ShardService({
    thread,
    identity: { ...identity(rank), ...own },
    facts: gatherFacts(),
    hangTimeoutMs: 1000,
    logger,
    onReady: () => undefined,
    onEnd: end,
  });
  const server = createServer({
    maxMessageBytes: 1 << 20,
    services: [{ definition: shardDefinition, implementation: service.implementation }],
    descriptors,
  });
  const address = await server.bind('127.0.0.1:0');
  cleanups.push(() => server.shutdown(0));
  return { address, thread, ended };
}

function lead(ranks: readonly Rank[]): { group: ShardGroup; thread: PretendThread; lost: Promise<Error> } {
  const thread = new PretendThread(0);
  let lose: (error: Error) => void = () => undefined;
  const lost = new Promise<Error>((resolve) => (lose = resolve));
  const group = new ShardGroup({
    thread,
    identity: identity(0),
    facts: gatherFacts(),
    addresses: ['127.0.0.1:1', ...ranks.map(({ address }) => address)],
    epoch: 'e1',
    hangTimeoutMs: 1000,
    joinTimeoutMs: 20_000,
    logger,
    onLost: lose,
  });
  cleanups.push(() => group.close(false));
  return { group, thread, lost };
}

async function started(ranks: readonly Rank[]) {
  const leader = lead(ranks);
  const kvBlocks = await leader.group.join();
  await leader.group.load();
  await leader.group.start(kvBlocks);
  return leader;
}

describe('a group of ranks', () => {
  it('starts with the fewest KV blocks and everyone’s address for everyone', async () => {
    const ranks = [await serveRank(1), await serveRank(2)];
    const { thread } = await started(ranks);
    expect(thread.started).toEqual({ kvBlocks: 98, peers: ['', '1for0', '2for0'] });
    expect(ranks[0]!.thread.started).toEqual({ kvBlocks: 98, peers: ['0for1', '', '2for1'] });
    expect(ranks[1]!.thread.started).toEqual({ kvBlocks: 98, peers: ['0for2', '1for2', ''] });
  });

  it('ends orderly on Shutdown', async () => {
    const ranks = [await serveRank(1), await serveRank(2)];
    const { group, thread } = await started(ranks);
    for (let step = 0; step < 50; step += 1) thread.lead(step);
    group.close(true);
    expect(await Promise.all(ranks.map(({ ended }) => ended))).toEqual([undefined, undefined]);
  });

  it('is lost when a rank’s plan hash differs, and names it', async () => {
    const ranks = [await serveRank(1), await serveRank(2, (step) => (step === 30 ? 1 : step * 7))];
    const { thread, lost } = await started(ranks);
    for (let step = 0; step <= 30; step += 1) thread.lead(step);
    const error = await lost;
    expect(error.message).toContain('rank 2');
    expect(error.message).toContain('plan hash of step 30');
    expect((await ranks[0]!.ended)?.message).toContain('rank 0');
  });

  it('is lost when a rank stops in a step although it lives', async () => {
    const ranks = [await serveRank(1), await serveRank(2, () => undefined)];
    const { thread, lost } = await started(ranks);
    thread.lead(0);
    expect((await lost).message).toContain('rank 2: made no progress in a step');
  });

  it('is lost when a rank’s engine thread dies', async () => {
    const ranks = [await serveRank(1), await serveRank(2)];
    const { lost } = await started(ranks);
    ranks[0]!.thread.die('out_of_memory');
    expect((await lost).message).toBe('rank 1: it died (out_of_memory)');
  });

  it('blames the rank that says so when a collective fails and no rank disappears', async () => {
    const ranks = [await serveRank(1), await serveRank(2)];
    const { lost } = await started(ranks);
    ranks[1]!.thread.die('collective_failed');
    expect((await lost).message).toBe('rank 2: it died (collective_failed)');
  });

  it.each([
    [{ modelFingerprint: 'xyz' }, 'model_fingerprint differs: rank 0 says abc, rank 1 has xyz'],
    [{ blockSize: 32 }, 'block_size'],
    [{ maxModelLength: 64 }, 'max_model_length'],
    [{ version: '2' }, 'version'],
    [{ rank: 2 }, 'rank differs'],
    [{ worldSize: 8 }, 'world_size'],
  ])('refuses a rank that differs in %j', async (own, text) => {
    const { group } = lead([await serveRank(1, undefined, own), await serveRank(2)]);
    await expect(group.join()).rejects.toMatchObject({
      name: 'GroupMismatch',
      rank: 1,
      message: expect.stringContaining(text),
    });
  });

  it('is lost when a rank cannot measure its links, and can be joined anew', async () => {
    const ranks = [await serveRank(1), await serveRank(2)];
    const { group } = lead(ranks);
    await group.join();
    ranks[1]!.thread.linksFail = 'connectCollective: no answer from rank 1';
    await expect(group.preflight('quick')).rejects.toMatchObject({
      name: 'GroupLost',
      rank: 2,
      message: 'rank 2: failed its preflight: connectCollective: no answer from rank 1',
    });
    ranks[1]!.thread.linksFail = undefined;
    const again = lead(ranks);
    await again.group.join();
    expect(await again.group.preflight('quick')).toMatchObject({ worldSize: 3, path: 'TCP' });
  });

  it('lets a new leader take over ranks that were joined but never started', async () => {
    const ranks = [await serveRank(1), await serveRank(2)];
    const first = lead(ranks);
    await first.group.join();
    await first.group.load();
    first.group.close(false);
    const { thread } = await started(ranks);
    expect(thread.started?.kvBlocks).toBe(98);
  });
});
