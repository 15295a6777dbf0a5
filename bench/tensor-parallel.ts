// What splitting the model over processes costs: the same cores as one rank of many threads or as ranks of one thread each.
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { median } from './peers/rows.ts';
import type { Row } from './results.ts';
import type { RankCommand, RankReply } from './tensor-parallel-rank.ts';

const RANK = fileURLToPath(new URL('tensor-parallel-rank.ts', import.meta.url));
const CONTEXT = 512;
const ROUNDS = 5;
const TIMES = 5;

class Rank {
  readonly #child: ChildProcess = fork(RANK, { serialization: 'advanced' });

  /** Throws when the process ends in place of an answer. */
  async call(command: RankCommand): Promise<RankReply> {
    const over = new AbortController();
    const ended = once(this.#child, 'exit', { signal: over.signal }).then(() => {
      throw new Error(`a rank's process ended during '${command.op}'`);
    });
    const answered = once(this.#child, 'message', { signal: over.signal });
    this.#child.send(command);
    try {
      const [reply] = (await Promise.race([answered, ended])) as [RankReply];
      return reply;
    } finally {
      ended.catch(() => undefined); // the listener goes, not the process
      over.abort();
    }
  }

  stop(): void {
    this.#child.kill('SIGKILL');
  }
}

/** Connected ranks of one group. */
async function group(worldSize: number, threads: number): Promise<Rank[]> {
  const ranks = Array.from({ length: worldSize }, () => new Rank());
  const loaded = await Promise.all(
    ranks.map((rank, index) => rank.call({ op: 'load', rank: index, worldSize, threads, dtype: 'bfloat16' })),
  );
  await Promise.all(
    ranks.map((rank, index) =>
      rank.call({
        op: 'connect',
        addresses: loaded.map(({ addresses }) => addresses?.[index] ?? new Uint8Array()),
      }),
    ),
  );
  return ranks;
}

/** Seconds of each pass on rank 0, all ranks at work. */
async function seconds(ranks: readonly Rank[], command: RankCommand): Promise<readonly number[]> {
  const replies = await Promise.all(ranks.map((rank) => rank.call(command)));
  return replies[0]?.seconds ?? [];
}

/** Decode steps of as many ranks as there are cores against one rank with as many threads, in turn. */
export async function benchTensorParallel(): Promise<Row[]> {
  const cores = availableParallelism();
  const ranks: Rank[] = [];
  try {
    const one = await group(1, cores);
    ranks.push(...one);
    const split = await group(cores, 1);
    ranks.push(...split);
    const rows: Row[] = [];
    for (const sequences of [1, 8]) {
      const together: number[] = [];
      const apart: number[] = [];
      const collectives: number[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        const decode = { op: 'decode', sequences, context: CONTEXT, times: TIMES } as const;
        together.push(...(await seconds(one, decode)));
        apart.push(...(await seconds(split, decode)));
        collectives.push(...(await seconds(split, { op: 'collectives', times: TIMES })));
      }
      const limit = median(together) + median(collectives);
      rows.push({
        metric: `decode, batch ${sequences}, ${cores} ranks of 1 thread`,
        shape: '0.3B Llama, bfloat16',
        unit: 'tokens/s',
        value: sequences / median(apart),
        limit: sequences / limit,
        limitOf: `1 rank of ${cores} threads (${(1000 * median(together)).toFixed(1)} ms a step) plus the collectives alone (${(1000 * median(collectives)).toFixed(1)} ms)`,
      });
    }
    return rows;
  } finally {
    for (const rank of ranks) rank.stop();
  }
}
