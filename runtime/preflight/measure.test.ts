// One rank's view of a measurement, with a clock that only its own calls move. That ranks stay in step is for real processes to show.
import { describe, expect, it } from 'vitest';
import type { Tensor } from '../native/index.ts';
import { measure } from './measure.ts';
import type { Links } from './measure.ts';
import { SCHEDULES, TOKEN_BYTES } from './measurement.ts';
import type { Extent } from './measurement.ts';

const MILLISECOND = 1_000_000;

/** `nsPerByte` over a latency of 10 us; `spikeAt`: that call takes a hundred times as long. */
function run(extent: Extent, worldSize: number, nsPerByte: number, spikeAt = -1) {
  let clock = 0n;
  let calls = 0;
  const shapes = new Map<number, number>();
  let live = 0;
  const takes = (bytes: number): void => {
    const ns = 10_000 + bytes * nsPerByte;
    clock += BigInt(Math.round(calls === spikeAt ? 100 * ns : ns));
    calls += 1;
  };
  const links: Links = {
    allocate: (_dtype, [rows = 0, columns = 0]) => {
      live += 1;
      shapes.set(live, rows * columns * 4);
      return live as Tensor;
    },
    free: () => void (live -= 1),
    mark: () => 0,
    release: () => undefined,
    readRow: () => undefined,
    allReduce: (x) => takes(shapes.get(x) ?? 0),
    swap: (out) => takes(out.length),
    broadcast: () => undefined,
  };
  const schedule = SCHEDULES[extent];
  const measurement = measure(links, { rank: 0, worldSize, schedule, now: () => clock });
  return { measurement, live, calls, ms: Number(clock) / MILLISECOND };
}

describe('measure', () => {
  it('times every pair and every size, and frees what it took', () => {
    const { measurement, live } = run('full', 2, 0.1);
    expect(measurement.pairs).toEqual([
      { first: 0, second: 1, bytes: 4 << 20, ns: Math.round(10_000 + (4 << 20) * 0.1), latencyNs: 10_001 },
    ]);
    expect(measurement.reduces.map(({ bytes }) => bytes)).toEqual([TOKEN_BYTES, 1 << 20, 64 << 20]);
    expect(measurement.reduces[0]?.ns).toBe(Math.round(10_000 + TOKEN_BYTES * 0.1));
    expect(live).toBe(0);
  });

  it.each([
    [2, [[0, 1]]],
    [3, [[0, 1], [0, 2], [1, 2]]], // prettier-ignore
  ])('meets each of %i ranks with each other once', (worldSize, pairs) => {
    const { measurement } = run('quick', worldSize, 0.1);
    expect(measurement.pairs.map(({ first, second }) => [first, second])).toEqual(pairs);
  });

  it('is not misled by a single call that takes long', () => {
    const calm = run('quick', 2, 0.1);
    for (let spike = 0; spike < calm.calls; spike += 89)
      expect(run('quick', 2, 0.1, spike).measurement).toEqual(calm.measurement);
  });

  it.each<[Extent, number]>([
    ['quick', 0.001],
    ['quick', 0.3],
    ['full', 0.001],
    ['full', 1],
  ])('%s stays within its budget at %d ns a byte', (extent, nsPerByte) => {
    expect(run(extent, 2, nsPerByte).ms).toBeLessThanOrEqual(SCHEDULES[extent].budgetMs);
  });

  it('leaves out sizes that are not to be done in time, but never the token', () => {
    const { measurement, ms } = run('full', 2, 20); // 50 MB/s
    expect(measurement.reduces.map(({ bytes }) => bytes)).toEqual([TOKEN_BYTES, 1 << 20]);
    expect(ms).toBeLessThan(2 * SCHEDULES.full.budgetMs);
    expect(run('quick', 2, 5000).measurement.reduces.map(({ bytes }) => bytes)).toEqual([TOKEN_BYTES]);
  });
});
