// Collectives of ranks on a device, a process each; group_test.cc goes into detail.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import type { Exchanged, Failed, RankInputs } from './group-rank.ts';

/** What each rank answers; undefined of the one that dies. */
async function ranks<T>(worldSize: number, dies: number | null = null): Promise<(T | undefined)[]> {
  const processes = Array.from({ length: worldSize }, (_, rank) =>
    fork(new URL('./group-rank.ts', import.meta.url), [
      JSON.stringify({ worldSize, rank, dies } satisfies RankInputs),
    ]),
  );
  try {
    const addresses = await Promise.all(
      processes.map(async (process) => ((await once(process, 'message')) as [number[][]])[0]),
    );
    const answers = processes.map(async (process, rank) =>
      rank === dies ? undefined : ((await once(process, 'message')) as [T])[0],
    );
    // Rank j tells each peer where that one finds it.
    for (const [rank, process] of processes.entries()) process.send(addresses.map((of) => of[rank]!));
    return await Promise.all(answers);
  } finally {
    for (const process of processes) process.kill('SIGKILL');
  }
}

describe('a group of ranks on a device', () => {
  it.each([2, 3])('exchanges tensors of %i ranks, recorded ones too', async (worldSize) => {
    const all = await ranks<Exchanged>(worldSize);
    const rankSum = (worldSize * (worldSize - 1)) / 2;
    for (const answer of all) {
      expect(answer!.ways).toEqual({
        path: 'peer memory',
        leftOut: 'NCCL: ranks 0 and 1 share one device',
        graphs: true,
      });
      const sums = Array.from({ length: 21 }, (_, i) => worldSize * i + 100 * rankSum);
      expect(answer!.sums.float32).toEqual(sums);
      expect(answer!.sums.bfloat16).toEqual(all[0]!.sums.bfloat16);
      for (const [i, sum] of answer!.sums.bfloat16.entries())
        expect(Math.abs(sum - sums[i]!)).toBeLessThanOrEqual(sums[i]! / 256);
      const columns = [0, 1].flatMap((row) =>
        Array.from({ length: 3 * worldSize }, (_, i) => 3 * row + (i % 3) + 10 * Math.floor(i / 3)),
      );
      expect(answer!.columns).toEqual(columns);
      expect(answer!.recorded).toEqual(
        [1, 2, 3].map((launch) =>
          Array.from({ length: 5 * worldSize }, () => launch * (rankSum + worldSize)),
        ),
      );
    }
  });

  it('fails within 5 s by the name of the rank that died', async () => {
    const [first, , third] = await ranks<Failed>(3, 1);
    for (const failure of [first!, third!]) {
      expect(failure.name).toBe('CollectiveError');
      expect(failure.message).toMatch(/rank 1 has closed its connection/);
      expect(failure.milliseconds).toBeLessThan(5000);
    }
  });
});
