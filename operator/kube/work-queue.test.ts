import { describe, expect, it } from 'vitest';
import * as fc from 'fast-check';
import { ManualClock, settle } from './testing/manual-clock.ts';
import { WorkQueue } from './work-queue.ts';

function make() {
  const clock = new ManualClock();
  const queue = new WorkQueue<string>({ random: () => 0, clock });
  const taken: (string | undefined)[] = [];
  const take = (): void => void queue.take().then((key) => taken.push(key));
  return { clock, queue, taken, take };
}

/** add x · take (result awaited) as t · done x · after x ms */
type Step =
  | ['add' | 'done' | 'forget' | 'retry', string]
  | ['take']
  | ['after', string, number]
  | ['pass', number]
  | ['close'];

const table: readonly [string, Step[], (string | undefined)[], number][] = [
  ['hands out in the order of adding', [['add', 'a'], ['add', 'b'], ['take'], ['take']], ['a', 'b'], 0],
  ['merges what waits already', [['add', 'a'], ['add', 'a'], ['take'], ['take']], ['a'], 0],
  ['gives to who waited first', [['take'], ['take'], ['add', 'a'], ['add', 'b']], ['a', 'b'], 0],
  ['does not hand out what is being handled', [['add', 'a'], ['take'], ['add', 'a'], ['take']], ['a'], 0],
  [
    'hands it out again when that is done',
    [['add', 'a'], ['take'], ['add', 'a'], ['take'], ['done', 'a']],
    ['a', 'a'],
    0,
  ],
  ['not when nothing was added meanwhile', [['add', 'a'], ['take'], ['take'], ['done', 'a']], ['a'], 0],
  ['lets others pass', [['add', 'a'], ['take'], ['add', 'a'], ['add', 'b'], ['take']], ['a', 'b'], 0],
  ['ignores done of what nobody handles', [['done', 'a'], ['add', 'a'], ['take']], ['a'], 0],
  ['adds after a delay', [['take'], ['after', 'a', 100], ['pass', 99]], [], 0],
  ['and not before', [['take'], ['after', 'a', 100], ['pass', 100]], ['a'], 0],
  [
    'the earliest of several delays wins',
    [['take'], ['after', 'a', 100], ['after', 'a', 50], ['pass', 50]],
    ['a'],
    0,
  ],
  ['whichever came first', [['take'], ['after', 'a', 50], ['after', 'a', 100], ['pass', 50]], ['a'], 0],
  [
    'and fires once',
    [['after', 'a', 50], ['after', 'a', 100], ['pass', 100], ['take'], ['done', 'a'], ['take']],
    ['a'],
    0,
  ],
  ['a delay of nothing is now', [['after', 'a', 0], ['take']], ['a'], 0],
  ['retries after 5 ms', [['retry', 'a'], ['take'], ['pass', 5]], ['a'], 0],
  [
    'then after 10',
    [['retry', 'a'], ['pass', 5], ['take'], ['done', 'a'], ['retry', 'a'], ['take'], ['pass', 9]],
    ['a'],
    0,
  ],
  [
    'after 5 again once forgotten',
    [
      ['retry', 'a'],
      ['pass', 5],
      ['take'],
      ['done', 'a'],
      ['forget', 'a'],
      ['retry', 'a'],
      ['take'],
      ['pass', 5],
    ],
    ['a', 'a'],
    0,
  ],
  ['closing frees who waits', [['take'], ['take'], ['close']], [undefined, undefined], 0],
  [
    'closing drops what waits',
    [['add', 'a'], ['after', 'b', 5], ['close'], ['pass', 5], ['take'], ['add', 'c'], ['take']],
    [undefined, undefined],
    0,
  ],
  [
    'counts what waits',
    [
      ['add', 'a'],
      ['add', 'b'],
      ['add', 'a'],
    ],
    [],
    2,
  ],
];

describe('work queue', () => {
  it.each(table)('%s', async (_name, steps, expected, depth) => {
    const { clock, queue, taken, take } = make();
    for (const step of steps) {
      if (step[0] === 'add') queue.add(step[1]);
      else if (step[0] === 'done') queue.done(step[1]);
      else if (step[0] === 'forget') queue.forget(step[1]);
      else if (step[0] === 'retry') queue.addRateLimited(step[1]);
      else if (step[0] === 'after') queue.addAfter(step[1], step[2]);
      else if (step[0] === 'pass') await clock.advance(step[1]);
      else if (step[0] === 'close') queue.close();
      else take();
      await settle();
    }
    expect([taken, queue.depth]).toEqual([expected, depth]);
  });

  it('doubles the delay of a key that keeps failing, a minute at most', () => {
    const { queue } = make();
    const delays = Array.from({ length: 16 }, () => queue.addRateLimited('a'));
    expect(delays.slice(0, 4)).toEqual([5, 10, 20, 40]);
    expect(delays.slice(-2)).toEqual([60_000, 60_000]);
    expect([queue.addRateLimited('b'), queue.addRateLimited('b', 2_000)]).toEqual([5, 2_000]);
  });

  it('measures waiting, work and work that does not end', async () => {
    const seen: string[] = [];
    const clock = new ManualClock();
    const queue = new WorkQueue<string>({
      random: () => 0,
      clock,
      observer: {
        added: () => seen.push('added'),
        retried: () => seen.push('retried'),
        queued: (seconds) => seen.push(`queued ${seconds}`),
        worked: (seconds) => seen.push(`worked ${seconds}`),
      },
    });
    queue.add('a');
    queue.add('b');
    await clock.advance(1_000);
    await queue.take();
    await clock.advance(2_000);
    await queue.take();
    await clock.advance(3_000);
    expect([queue.longestRunningSeconds, queue.unfinishedWorkSeconds]).toEqual([5, 8]);
    queue.done('a');
    queue.addRateLimited('a');
    expect([queue.longestRunningSeconds, queue.unfinishedWorkSeconds]).toEqual([3, 3]);
    expect(seen).toEqual(['added', 'added', 'queued 1', 'queued 3', 'worked 5', 'retried']);
  });

  it('never gives a key to two workers and never loses one that was added', async () => {
    const key = fc.constantFrom('a', 'b', 'c');
    const action = fc.oneof(
      fc.record({ do: fc.constant('add' as const), key }),
      fc.record({ do: fc.constant('after' as const), key, ms: fc.integer({ min: 0, max: 20 }) }),
      fc.record({ do: fc.constant('retry' as const), key }),
      fc.record({ do: fc.constant('done' as const), key }),
      fc.record({ do: fc.constant('take' as const) }),
      fc.record({ do: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 20 }) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 40 }), async (actions) => {
        const clock = new ManualClock();
        const queue = new WorkQueue<string>({ random: () => 0.5, clock });
        const handling = new Set<string>();
        /** Keys added and not taken since. */
        const owed = new Set<string>();
        const twice: string[] = [];
        let idle = 0;
        const take = (): void => {
          idle += 1;
          void receive();
        };
        const receive = async (): Promise<void> => {
          const taken = await queue.take();
          idle -= 1;
          if (taken === undefined) return;
          if (handling.has(taken)) twice.push(taken);
          handling.add(taken);
          owed.delete(taken);
        };
        for (const step of actions) {
          if (step.do === 'add') queue.add(step.key);
          else if (step.do === 'after') queue.addAfter(step.key, step.ms);
          else if (step.do === 'retry') queue.addRateLimited(step.key);
          else if (step.do === 'take' && idle + handling.size < 2) take();
          else if (step.do === 'pass') await clock.advance(step.ms);
          if (step.do === 'add' || step.do === 'after' || step.do === 'retry') owed.add(step.key);
          if (step.do === 'done' && handling.delete(step.key)) queue.done(step.key);
          await settleOnce();
        }
        await clock.advance(120_000);
        while (handling.size > 0 || queue.depth > 0) {
          for (const held of Array.from(handling)) {
            handling.delete(held);
            queue.done(held);
          }
          if (idle === 0) take();
          await settleOnce();
        }
        expect([[...owed], twice]).toEqual([[], []]);
        expect(clock.timers).toEqual([]);
        queue.close();
      }),
      { seed: 20261123, numRuns: 150 },
    );
  });
});

function settleOnce(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
