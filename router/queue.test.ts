import { describe, expect, it } from 'vitest';
import { RequestQueue, type Queueable, type QueueLimits } from './queue.ts';

interface Item extends Queueable {
  readonly name: string;
}

const LIMITS: QueueLimits = { maxRequests: 3, maxBytes: 100, maxWaitMs: 1000, agingMs: 500 };

function item(name: string, options: Partial<Omit<Item, 'name'>> = {}): Item {
  const enqueuedAt = options.enqueuedAt ?? 0;
  return { name, priorityClass: 1, bytes: 10, enqueuedAt, waitingSince: enqueuedAt, ...options };
}

const names = (items: Iterable<Item>): string[] => [...items].map(({ name }) => name);

describe('RequestQueue bounds', () => {
  it('refuses by count', () => {
    const queue = new RequestQueue<Item>(LIMITS);
    for (const name of ['a', 'b', 'c']) expect(queue.push(item(name))).toBe('queued');
    expect(queue.push(item('d'))).toBe('too many requests');
    expect([queue.size, queue.bytes]).toEqual([3, 30]);
  });

  it('refuses by bytes and counts what leaves', () => {
    const queue = new RequestQueue<Item>(LIMITS);
    const big = item('big', { bytes: 95 });
    expect(queue.push(big)).toBe('queued');
    expect(queue.push(item('small'))).toBe('too many bytes');
    expect(queue.remove(big)).toBe(true);
    expect(queue.remove(big)).toBe(false);
    expect([queue.size, queue.bytes]).toEqual([0, 0]);
    expect(queue.push(item('small'))).toBe('queued');
  });

  it('takes back what had left even when it is full', () => {
    const queue = new RequestQueue<Item>(LIMITS);
    for (const name of ['a', 'b', 'c']) queue.push(item(name));
    queue.pushBack(item('returned'));
    expect(queue.size).toBe(4);
    expect(names(queue.inOrder(0))).toEqual(['returned', 'a', 'b', 'c']);
  });

  it('hands out what waited too long, counted from when it last came in', () => {
    const queue = new RequestQueue<Item>(LIMITS);
    queue.push(item('old'));
    queue.push(item('young', { enqueuedAt: 600 }));
    queue.pushBack(item('retried', { enqueuedAt: 0, waitingSince: 900 }));
    expect(names(queue.expired(1000))).toEqual([]);
    expect(names(queue.expired(1001))).toEqual(['old']);
    expect(names(queue.expired(9999)).toSorted()).toEqual(['retried', 'young']);
    expect([queue.size, queue.bytes]).toEqual([0, 0]);
  });
});

describe('RequestQueue order', () => {
  it.each([
    [
      'first come, first served in a class',
      [item('a'), item('b', { enqueuedAt: 1 }), item('c', { enqueuedAt: 2 })],
      10,
      ['a', 'b', 'c'],
    ],
    [
      'a higher class first',
      [item('batch', { priorityClass: 0 }), item('normal'), item('high', { priorityClass: 2 })],
      0,
      ['high', 'normal', 'batch'],
    ],
    [
      'a lower class that waited one class longer is even, and then the class decides',
      [item('batch', { priorityClass: 0 }), item('normal', { enqueuedAt: 500 })],
      500,
      ['normal', 'batch'],
    ],
    [
      'a lower class that waited longer still goes first',
      [item('batch', { priorityClass: 0 }), item('normal', { enqueuedAt: 501 })],
      501,
      ['batch', 'normal'],
    ],
    [
      'classes outside the range count as the nearest',
      [item('low', { priorityClass: -4 }), item('top', { priorityClass: 99 })],
      0,
      ['top', 'low'],
    ],
  ])('%s', (_, items, now, expected) => {
    const queue = new RequestQueue<Item>({ ...LIMITS, maxRequests: 10 });
    for (const entry of items) queue.push(entry);
    expect(names(queue.inOrder(now))).toEqual(expected);
  });

  it('can be walked while what was yielded is removed', () => {
    const queue = new RequestQueue<Item>({ ...LIMITS, maxRequests: 10 });
    for (const name of ['a', 'b', 'c']) queue.push(item(name));
    const seen: string[] = [];
    for (const entry of queue.inOrder(0)) {
      seen.push(entry.name);
      queue.remove(entry);
    }
    expect(seen).toEqual(['a', 'b', 'c']);
    expect(queue.size).toBe(0);
  });
});
