// Tenants in the router's queue.

import { describe, expect, it } from 'vitest';

import { RequestQueue, type Queueable } from './queue.ts';

interface Item extends Queueable {
  readonly name: string;
}

const AGING_MS = 500;

function queueOf(...items: readonly Item[]): RequestQueue<Item> {
  const limits = { maxRequests: 10_000, maxBytes: 1e9, maxWaitMs: 1e9, agingMs: AGING_MS };
  const queue = new RequestQueue<Item>(limits);
  for (const each of items) expect(queue.push(each)).toBe('queued');
  return queue;
}

/** name: the tenant's letter first. */
function item(name: string, options: Partial<Item> = {}): Item {
  const enqueuedAt = options.enqueuedAt ?? 0;
  return {
    name,
    priorityClass: 1,
    bytes: 1,
    enqueuedAt,
    waitingSince: enqueuedAt,
    workTokens: 10,
    work: { cacheSalt: name[0]! },
    ...options,
  };
}

/** Places the next `count` in one batch, as takeBatch does. */
function place(queue: RequestQueue<Item>, count: number, now = 0): string[] {
  const batch: Item[] = [];
  for (const each of queue.inOrder(now)) {
    if (batch.push(each) === count) break;
  }
  for (const each of batch) queue.remove(each);
  return batch.map(({ name }) => name);
}

describe('tenants of the queue', () => {
  const flood = [1, 2, 3, 4].map((index) => item(`a${String(index)}`));

  it('take turns within a batch, and over batches', () => {
    const together = queueOf(...flood, item('b1'), item('b2'));
    expect(place(together, 6)).toEqual(['a1', 'b1', 'a2', 'b2', 'a3', 'a4']);
    const apart = queueOf(...flood, item('b1'), item('b2'));
    expect([1, 2, 3, 4, 5, 6].flatMap(() => place(apart, 1))).toEqual(['a1', 'b1', 'a2', 'b2', 'a3', 'a4']);
  });

  it('get equal tokens', () => {
    const large = item('b1', { workTokens: 30 });
    const queue = queueOf(large, ...flood, item('b2', { workTokens: 30 }));
    expect(place(queue, 6)).toEqual(['b1', 'a1', 'a2', 'a3', 'b2', 'a4']);
  });

  it('are one when requests say nothing of them', () => {
    const nobody = { work: { cacheSalt: '' } };
    const { work: _, ...silent } = item('x');
    const queue = queueOf(item('1', nobody), item('2', nobody), { ...silent, name: '3' }, item('a'));
    expect(place(queue, 4)).toEqual(['1', 'a', '2', '3']);
  });

  it('pay for what is placed, not for what is given up', () => {
    const [a1, a2, a3] = [item('a1'), item('a2'), item('a3')];
    const queue = queueOf(a1, item('b1'), a2, item('b2'), a3, item('b3'));
    for (const given of [a1, a2]) queue.remove(given);
    expect(place(queue, 2)).toEqual(['a3', 'b1']);
  });

  it('do not pay twice for what came back, and it stands first', () => {
    const [first, second] = [item('a1'), item('a2')];
    const queue = queueOf(first, item('b1'), second, item('b2'));
    expect(place(queue, 2)).toEqual(['a1', 'b1']);
    queue.pushBack(first);
    expect(place(queue, 3)).toEqual(['a1', 'a2', 'b2']);
  });

  it('come after a higher class, and before it when one of their class has waited for that long', () => {
    const young = item('b1', { enqueuedAt: 600 });
    const high = item('c1', { priorityClass: 2, enqueuedAt: 600 });
    expect(place(queueOf(item('a1', { enqueuedAt: 200 }), young, high), 3, 650)).toEqual(['c1', 'a1', 'b1']);
    expect(place(queueOf(item('a1'), item('a2'), young, high), 4, 650)).toEqual(['a1', 'b1', 'a2', 'c1']);
  });

  it('have the next turn when they have waited for one as long as a class is worth', () => {
    const queue = queueOf(item('a1', { workTokens: 9999 }), item('a2'), item('x'), item('y'));
    expect(place(queue, 1)).toEqual(['a1']);
    // More new tenants than can be served.
    let placedAt = 0;
    for (let now = 10; placedAt === 0; now += 10) {
      expect(now).toBeLessThan(2 * AGING_MS);
      for (const first of [1000 + now, 5000 + now]) {
        queue.push(item(String.fromCharCode(first), { enqueuedAt: now }));
      }
      if (place(queue, 1, now).includes('a2')) placedAt = now;
    }
    expect(placedAt).toBe(AGING_MS);
  });

  it('leave nothing behind, whether requests are placed, given up or late', () => {
    const [a1, b1] = [item('a1'), item('b1')];
    const queue = queueOf(a1, b1, item('c1', { enqueuedAt: -2e9 }));
    expect(queue.expired(1)).toHaveLength(1);
    expect(place(queue, 1)).toEqual(['a1']);
    expect([queue.remove(b1), queue.remove(a1)]).toEqual([true, false]);
    expect([queue.size, queue.bytes, place(queue, 9)]).toEqual([0, 0, []]);
  });
});

describe('a tenant that floods the queue', () => {
  it('holds another up for a request at most, and nobody starves', () => {
    const queue = queueOf(...Array.from({ length: 300 }, (_, index) => item(`a${String(index)}`)));
    const cameAt = new Map<string, number>();
    const waits: number[] = [];
    let served = 0;
    for (let now = 1; queue.size > 0; now += 1) {
      if (now % 10 === 0 && now <= 200) {
        cameAt.set(`b${String(now)}`, now);
        queue.push(item(`b${String(now)}`, { enqueuedAt: now }));
      }
      const [name] = place(queue, 1, now);
      expect(name).toBeDefined();
      served += 1;
      const came = cameAt.get(name!);
      if (came !== undefined) waits.push(now - came);
    }
    expect(served).toBe(320);
    expect(waits).toHaveLength(20);
    expect(Math.max(...waits)).toBeLessThanOrEqual(1);
  });
});
