import { describe, expect, it } from 'vitest';
import type { Candidate } from './balancer.ts';
import { takeBatch } from './batcher.ts';
import { DEFAULT_RATES } from './cost.ts';
import { RequestQueue, type Queueable } from './queue.ts';

interface Item extends Queueable {
  readonly name: string;
  readonly workTokens: number;
  readonly avoid: Set<string>;
}

function queueOf(...items: Partial<Item>[]): RequestQueue<Item> {
  const queue = new RequestQueue<Item>({ maxRequests: 100, maxBytes: 1e6, maxWaitMs: 1e6, agingMs: 1000 });
  for (const [index, options] of items.entries()) {
    queue.push({
      name: String(index),
      workTokens: 100,
      avoid: new Set(),
      priorityClass: 1,
      bytes: 1,
      enqueuedAt: index,
      waitingSince: index,
      ...options,
    });
  }
  return queue;
}

function candidate(name: string, credits: number): Candidate {
  return {
    name,
    credits,
    maxSequences: 8,
    load: { waitingUncachedTokens: 0, unackedTokens: 0, sequences: 0, kvUsage: 0 },
    rates: DEFAULT_RATES,
  };
}

const take = (queue: RequestQueue<Item>, candidates: Candidate[], random = () => 0) =>
  takeBatch(queue, candidates, () => 0, 100, random).map(
    ({ request, replica }) => `${request.name}>${replica}`,
  );

describe('takeBatch', () => {
  it('takes no more than there are credits, in order, and leaves the rest', () => {
    const queue = queueOf({}, {}, {}, {}, {});
    expect(take(queue, [candidate('a', 2), candidate('b', 1)])).toHaveLength(3);
    expect([...queue.inOrder(100)].map(({ name }) => name)).toEqual(['3', '4']);
  });

  it('spreads one batch: what it assigns counts as load at once', () => {
    expect(take(queueOf({}, {}, {}, {}), [candidate('a', 4), candidate('b', 4)])).toEqual([
      '0>a',
      '1>b',
      '2>a',
      '3>b',
    ]);
  });

  it('lets others pass a request that has to wait for another replica', () => {
    const queue = queueOf({ avoid: new Set(['a']) }, {});
    expect(take(queue, [candidate('a', 1), candidate('b', 0)])).toEqual(['1>a']);
    expect(queue.size).toBe(1);
  });

  it.each([
    ['no replicas', []],
    ['no credits', [candidate('a', 0), candidate('b', -3)]],
  ])('takes nothing with %s', (_, candidates) => {
    const queue = queueOf({}, {});
    expect(take(queue, candidates)).toEqual([]);
    expect(queue.size).toBe(2);
  });

  it('does not change the candidates it was given', () => {
    const one = candidate('a', 2);
    take(queueOf({}, {}), [one]);
    expect(one).toEqual(candidate('a', 2));
  });
});
