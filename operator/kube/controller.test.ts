import { describe, expect, it } from 'vitest';
import type { ControllerOptions, Reconcile } from './controller.ts';
import { Controller } from './controller.ts';
import { ApiError, TerminalError } from './errors.ts';
import { CollectedLog } from './testing/collected-log.ts';
import { ManualClock, settle } from './testing/manual-clock.ts';
import { WorkQueue } from './work-queue.ts';

function start(reconcile: Reconcile, options: Partial<ControllerOptions> = {}) {
  const clock = new ManualClock();
  const queue = new WorkQueue<string>({ random: () => 0, clock });
  const log = new CollectedLog();
  const results: string[] = [];
  const controller = new Controller({
    queue,
    reconcile,
    log,
    random: () => 0,
    clock,
    observer: { reconciled: (result, seconds) => results.push(`${result} ${seconds}`) },
    ...options,
  });
  const stop = new AbortController();
  const running = controller.run(stop.signal);
  return { clock, queue, log, results, controller, stop, running };
}

/** A reconcile whose ends the test decides. */
function held() {
  const begun: string[] = [];
  const ends = new Map<string, () => void>();
  const reconcile: Reconcile = (key) => {
    begun.push(key);
    return new Promise((resolve) => ends.set(key, () => resolve()));
  };
  return { begun, ends, reconcile };
}

describe('controller', () => {
  it('handles different keys at once, as many as it has workers, and one key never twice at once', async () => {
    const { begun, ends, reconcile } = held();
    const { queue, controller, stop, running } = start(reconcile, { workers: 2 });
    for (const key of ['a', 'a', 'b', 'c']) queue.add(key);
    await settle();
    queue.add('a');
    await settle();
    expect([begun, controller.activeWorkers]).toEqual([['a', 'b'], 2]);
    ends.get('a')!();
    await settle();
    expect(begun).toEqual(['a', 'b', 'c']);
    ends.get('c')!();
    await settle();
    expect(begun).toEqual(['a', 'b', 'c', 'a']);
    for (const end of ends.values()) end();
    stop.abort();
    expect(await running).toBe(true);
  });

  it.each([
    ['nothing', () => Promise.resolve(), 'success 0', []],
    ['a time', () => Promise.resolve({ requeueAfterMs: 3_000 }), 'requeue_after 0', [3_000]],
    ['no time', () => Promise.resolve({ requeueAfterMs: undefined }), 'success 0', []],
    ['an error', () => Promise.reject(new Error('x')), 'error 0', [5]],
    [
      'a refusal with a time',
      () => Promise.reject(new ApiError('x', 429, undefined, '', 9_000)),
      'error 0',
      [9_000],
    ],
    [
      'a conflict',
      () => Promise.reject(new ApiError('x', 409, { reason: 'Conflict' }, '', undefined)),
      'conflict 0',
      [5],
    ],
    ['a hopeless error', () => Promise.reject(new TerminalError('x')), 'terminal 0', []],
  ] as [string, Reconcile, string, number[]][])(
    'a reconcile that ends with %s',
    async (_name, reconcile, result, timers) => {
      const { queue, clock, results, stop, running } = start(reconcile);
      queue.add('a');
      await settle();
      expect([results, clock.timers]).toEqual([[result], timers]);
      stop.abort();
      await running;
      expect(clock.timers).toEqual([]);
    },
  );

  it('backs off while a key fails and starts anew after it succeeded', async () => {
    let failing = true;
    const { queue, clock, log, stop, running } = start(() =>
      failing ? Promise.reject(new Error('x')) : Promise.resolve(),
    );
    queue.add('a');
    const waits: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      await settle();
      waits.push(clock.timers[0]!);
      if (round === 2) failing = false;
      await clock.advance(clock.timers[0]!);
    }
    failing = true;
    queue.add('a');
    await settle();
    waits.push(clock.timers[0]!);
    expect(waits).toEqual([5, 10, 20, 5]);
    expect(log.lines).toHaveLength(4);
    stop.abort();
    await running;
  });

  it('does not log a conflict as a failure', async () => {
    const conflict = new ApiError('x', 409, { reason: 'Conflict' }, '', undefined);
    const { queue, log, stop, running } = start(() => Promise.reject(conflict));
    queue.add('a');
    await settle();
    expect(log.lines).toEqual(['debug a: conflict']);
    stop.abort();
    await running;
  });

  it('aborts a reconcile at its deadline and tries again', async () => {
    let calls = 0;
    const { queue, clock, results, stop, running } = start(
      (_key, signal) =>
        new Promise((_resolve, reject) => {
          calls += 1;
          signal.addEventListener('abort', () => reject(signal.reason as Error));
        }),
      { deadlineMs: 30_000 },
    );
    queue.add('a');
    await settle();
    await clock.advance(30_000);
    expect([results, calls]).toEqual([['error 30'], 1]);
    await clock.advance(5);
    expect(calls).toBe(2);
    stop.abort();
    await running;
  });

  it('a reconcile that hangs keeps its key and shows in the metrics; other keys go on', async () => {
    const { begun, reconcile } = held();
    const { queue, clock, stop, running, log } = start(reconcile, { workers: 2, stopMs: 1_000 });
    queue.add('a');
    await clock.advance(500_000);
    queue.add('a');
    queue.add('b');
    await settle();
    expect([begun, queue.longestRunningSeconds]).toEqual([['a', 'b'], 500]);
    stop.abort();
    await settle();
    await clock.advance(1_000);
    expect(await running).toBe(false);
    expect(log.lines).toContain('warn 2 reconciles did not stop in time');
  });

  it('handles all keys again every ten minutes and a little more', async () => {
    const seen: string[] = [];
    const { clock, stop, running } = start((key) => Promise.resolve(void seen.push(key)), {
      resyncKeys: () => ['a', 'b'],
      random: () => 0.5,
    });
    await settle();
    expect(clock.timers).toEqual([630_000]);
    await clock.advance(1_260_000);
    expect(seen).toEqual(['a', 'b', 'a', 'b']);
    stop.abort();
    await running;
    expect(clock.timers).toEqual([]);
  });

  it('stops without trying again what it interrupted', async () => {
    const { queue, clock, stop, running, results } = start(
      (_key, signal) =>
        new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('cut')))),
    );
    queue.add('a');
    await settle();
    stop.abort();
    expect([await running, clock.timers, results, queue.depth]).toEqual([true, [], [], 0]);
  });
});
