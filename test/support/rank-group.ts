// Starts the ranks of a tensor-parallel group as processes, for tests of the model.

import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type {
  FromParent,
  FromRank,
  RankOptions,
  RankRequest,
  RankResult,
} from '../integration/model/rank-process.ts';
import { GREEDY_DRAW } from './logits.ts';

const RANK_PROCESS = fileURLToPath(new URL('../integration/model/rank-process.ts', import.meta.url));

export class RankGroup {
  readonly #ranks: readonly ChildProcess[];

  private constructor(ranks: readonly ChildProcess[]) {
    this.#ranks = ranks;
  }

  /** Starts worldSize processes, lets each load its part and connects them. */
  static async start(options: Omit<RankOptions, 'rank'>): Promise<RankGroup> {
    const ranks = Array.from({ length: options.worldSize }, (_, rank) =>
      fork(RANK_PROCESS, [JSON.stringify({ ...options, rank })], {
        serialization: 'advanced',
        execArgv: [],
        env: { ...process.env, OMP_NUM_THREADS: '1' },
      }),
    );
    const group = new RankGroup(ranks);
    try {
      const created = await group.#replies('addresses');
      const addresses = created.map((message) => message.addresses);
      await group.#ask('connected', (rank) => ({
        type: 'connect',
        addresses: addresses.map((ofPeer) => ofPeer[rank] ?? new Uint8Array()),
      }));
    } catch (error) {
      group.stop();
      throw error;
    }
    return group;
  }

  /** Runs a request on all ranks. Only rank 0 is told ids, draws and pixels. */
  async generate(request: RankRequest): Promise<RankResult> {
    const draws = request.draws && { draws: request.draws.map(() => GREEDY_DRAW) };
    const blind = { ...request, ...draws, ids: request.ids.map(() => 0), pixels: undefined };
    const replies = await this.#ask('generated', (rank) => ({
      type: 'generate',
      request: rank === 0 ? request : blind,
    }));
    for (const { result } of replies.slice(1))
      if (result.logits.length > 0) throw new Error('a rank other than 0 returned logits');
    const [reply] = replies;
    if (reply === undefined) throw new Error('the group has no rank');
    return reply.result;
  }

  stop(): void {
    for (const rank of this.#ranks) rank.kill('SIGKILL');
  }

  #ask<Type extends FromRank['type']>(
    type: Type,
    message: (rank: number) => FromParent,
  ): Promise<Extract<FromRank, { type: Type }>[]> {
    const replies = this.#replies(type);
    for (const [rank, child] of this.#ranks.entries()) child.send(message(rank));
    return replies;
  }

  /** One message of that type from each rank; rejects when a rank ends first. */
  #replies<Type extends FromRank['type']>(type: Type): Promise<Extract<FromRank, { type: Type }>[]> {
    return Promise.all(
      this.#ranks.map(
        (child, rank) =>
          new Promise<Extract<FromRank, { type: Type }>>((resolve, reject) => {
            const onExit = (code: number | null, signal: string | null) => {
              reject(new Error(`rank ${rank} ended with ${code ?? signal}`));
            };
            child.once('exit', onExit);
            child.once('message', (message: FromRank) => {
              child.off('exit', onExit);
              if (message.type === type) resolve(message as Extract<FromRank, { type: Type }>);
              else reject(new Error(`rank ${rank} sent ${message.type}, not ${type}`));
            });
          }),
      ),
    );
  }
}
