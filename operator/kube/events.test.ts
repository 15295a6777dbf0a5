import { describe, expect, it } from 'vitest';
import { ApiError } from './errors.ts';
import type { EventRecorderOptions } from './events.ts';
import { EventRecorder } from './events.ts';
import { CollectedLog } from './testing/collected-log.ts';
import { ManualClock } from './testing/manual-clock.ts';

interface Written {
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly message: string;
  readonly count: number;
}

function make(options: Partial<EventRecorderOptions> = {}) {
  const created: Written[] = [];
  const patched: [string, { count: number; lastTimestamp: string }][] = [];
  let failure: Error | undefined;
  const client = {
    create: async (_resource: unknown, event: Written) => {
      await Promise.resolve();
      if (failure !== undefined) throw failure;
      created.push(event);
      return event;
    },
    mergePatch: async (_resource: unknown, key: string, patch: { count: number; lastTimestamp: string }) => {
      await Promise.resolve();
      if (failure !== undefined) throw failure;
      patched.push([key, patch]);
      return patch;
    },
  } as unknown as ConstructorParameters<typeof EventRecorder>[0];
  const clock = new ManualClock();
  const log = new CollectedLog();
  const recorder = new EventRecorder(client, { component: 'c', instance: 'pod-1', log, clock, ...options });
  return { recorder, created, patched, clock, log, fail: (error: Error | undefined) => (failure = error) };
}

function subject(name = 'demo') {
  return {
    apiVersion: 'x/v1',
    kind: 'X',
    metadata: { name, namespace: 'n', uid: 'u', labels: { not: 'sent' } },
  };
}

describe('events', () => {
  it('says who, what and when', async () => {
    const { recorder, created } = make();
    recorder.record(subject(), 'Warning', 'Failed', 'it failed');
    await recorder.flush();
    expect(created).toEqual([
      {
        metadata: { name: expect.stringMatching(/^demo\.[0-9a-f]+$/) as string, namespace: 'n' },
        involvedObject: { apiVersion: 'x/v1', kind: 'X', name: 'demo', namespace: 'n', uid: 'u' },
        type: 'Warning',
        reason: 'Failed',
        message: 'it failed',
        count: 1,
        firstTimestamp: '2026-01-01T00:00:00Z',
        lastTimestamp: '2026-01-01T00:00:00Z',
        source: { component: 'c' },
        reportingComponent: 'c',
        reportingInstance: 'pod-1',
      },
    ]);
  });

  it('counts what is told again, once for all that waits', async () => {
    const { recorder, created, patched, clock } = make();
    recorder.record(subject(), 'Normal', 'R', 'm');
    await recorder.flush();
    await clock.advance(5_000);
    recorder.record(subject('other'), 'Normal', 'R', 'm'); // is being written while the next ones wait
    for (let time = 0; time < 3; time += 1) recorder.record(subject(), 'Normal', 'R', 'm');
    await recorder.flush();
    expect(created.map(({ count }) => count)).toEqual([1, 1]);
    expect(patched).toEqual([
      [`n/${created[0]!.metadata.name}`, { count: 4, lastTimestamp: '2026-01-01T00:00:05Z' }],
    ]);
  });

  it('tells anew what the server has forgotten', async () => {
    const { recorder, created, patched, fail, log } = make();
    recorder.record(subject(), 'Normal', 'R', 'm');
    await recorder.flush();
    fail(new ApiError('patch', 404, { reason: 'NotFound' }, '', undefined));
    recorder.record(subject(), 'Normal', 'R', 'm');
    await recorder.flush(); // the patch and the new event both fail
    expect(log.lines).toEqual(['warn could not write an event']);
    fail(undefined);
    recorder.record(subject(), 'Normal', 'R', 'm');
    await recorder.flush();
    expect([created.length, patched.map(([, { count }]) => count)]).toEqual([1, [3]]);
  });

  it('ends failures in the log and goes on', async () => {
    const { recorder, created, log, fail } = make();
    fail(new Error('down'));
    recorder.record(subject(), 'Normal', 'R', 'm');
    await recorder.flush();
    fail(undefined);
    recorder.record(subject(), 'Normal', 'R', 'other');
    await recorder.flush();
    expect([log.lines, created.map(({ message }) => message)]).toEqual([
      ['warn could not write an event'],
      ['other'],
    ]);
  });

  it('bounds what an object may have: 100, then one in ten seconds', async () => {
    const { recorder, created, clock } = make();
    const tell = async (many: number, name: string): Promise<number> => {
      const before = created.length;
      for (let index = 0; index < many; index += 1)
        recorder.record(subject(name), 'Normal', 'R', `${clock.now()} ${index}`);
      await recorder.flush();
      return created.length - before;
    };
    expect([await tell(115, 'a'), recorder.dropped, await tell(1, 'b')]).toEqual([100, 15, 1]);
    await clock.advance(9_000);
    expect(await tell(1, 'a')).toBe(0);
    await clock.advance(1_000);
    expect(await tell(2, 'a')).toBe(1);
  });

  it('bounds what waits', async () => {
    const { recorder, created } = make({ mostPending: 10 });
    for (let index = 0; index < 100; index += 1) recorder.record(subject(`o${index}`), 'Normal', 'R', 'm');
    await recorder.flush();
    expect(created.length + recorder.dropped).toBe(100);
    expect(created.length).toBeLessThanOrEqual(11);
  });

  it('bounds what is remembered', async () => {
    const { recorder, created, patched } = make({ remembered: 2 });
    for (const name of ['a', 'b', 'a', 'c', 'a', 'b']) {
      recorder.record(subject(name), 'Normal', 'R', 'm');
      await recorder.flush();
    }
    expect(created.map(({ metadata }) => metadata.name[0])).toEqual(['a', 'b', 'c', 'b']);
    expect(patched.map(([key]) => key.slice(0, 3))).toEqual(['n/a', 'n/a']);
  });

  it('shortens messages and names to what the API takes', async () => {
    const { recorder, created } = make();
    recorder.record(subject('x'.repeat(253)), 'Normal', 'R', 'é'.repeat(2_000));
    await recorder.flush();
    const [event] = created;
    expect(Buffer.byteLength(event!.message)).toBeLessThanOrEqual(1024);
    expect(event!.message).toMatch(/^é{510}…$/);
    expect(event!.metadata.name).toHaveLength(253);
  });
});
