import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createLogger } from '../rpc/log.ts';
import { NEVER_CONNECTED, transition, type ReplicaEvent } from './replica-state.ts';
import { replicaReport, reportOf, ReportWriter, type ReportedReplica } from './report.ts';

const WELCOMED: ReplicaEvent = { type: 'welcomed' };
const READY: readonly ReplicaEvent[] = [WELCOMED, { type: 'probe passed' }];
const replica = (events: readonly ReplicaEvent[], attempts = 0): ReportedReplica => ({
  name: 'demo-0',
  id: 'u',
  state: events.reduce(transition, NEVER_CONNECTED),
  attempts,
});

describe('replicaReport', () => {
  it.each<[string, readonly ReplicaEvent[], number, string]>([
    ['no session', [], 0, 'connecting'],
    ['its probe under way', [WELCOMED], 1, 'probing'],
    ['ready', READY, 3, 'ready'],
    ['cordoned with work', [...READY, { type: 'cordoned' }], 1, 'draining'],
    ['cordoned without', [...READY, { type: 'cordoned' }], 0, 'drained'],
    ['cordoned and not connected', [{ type: 'cordoned' }], 0, 'drained'],
    ['drained by itself', [...READY, { type: 'drain started' }], 0, 'drained'],
    ['ejected', [...READY, { type: 'ejected', message: 'm' }], 0, 'ejected'],
    ['another model', [WELCOMED, { type: 'incompatible', message: 'm' }], 0, 'incompatible'],
    [
      'another model, cordoned',
      [WELCOMED, { type: 'incompatible', message: 'm' }, { type: 'cordoned' }],
      0,
      'drained',
    ],
  ])('%s', (_, events, attempts, state) => {
    expect(replicaReport(replica(events, attempts))).toMatchObject({ podUid: 'u', state });
  });

  it('names the drain that it obeys, which is news by itself', () => {
    const drained = (drainName: string) => ({ ...replica([...READY, { type: 'cordoned' }]), drainName });
    expect(replicaReport(drained('first'))).toMatchObject({ state: 'drained', drain: 'first' });
    expect(reportOf('r', [drained('first')])).not.toBe(reportOf('r', [drained('second')]));
    expect(replicaReport(replica(READY))).not.toHaveProperty('drain');
  });

  it('passes on how the ranks reach each other, bounded, and also while the replica cannot be reached', () => {
    const interconnect = {
      backend: 'cuda',
      path: 'P2P/CUMEM',
      direct: true,
      busGigabytesPerSecond: 156.6123,
      reducedBytes: 1 << 20,
      latencyUs: 21.234,
      failedGates: Array.from({ length: 99 }, () => ({ gate: 'SameHost', message: 'x'.repeat(10_000) })),
    };
    const measured = { ...replica([{ type: 'lost', message: 'm' }]), info: { interconnect } };
    const report = replicaReport(measured).interconnect;
    expect(report).toMatchObject({
      path: 'P2P/CUMEM',
      busGigabytesPerSecond: 157,
      latencyMicroseconds: 21.2,
      reducedBytes: 1 << 20,
    });
    expect(report?.failedGates).toHaveLength(16);
    expect(report?.failedGates[0]?.message).toHaveLength(512);
    expect(replicaReport({ ...measured, info: {} })).not.toHaveProperty('interconnect');
  });

  it('has a bounded message', () => {
    const report = replicaReport(replica([{ type: 'lost', message: 'x'.repeat(10_000) }]));
    expect(report.message).toHaveLength(512);
  });
});

describe('ReportWriter', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());
  const logger = createLogger({ level: 'error', format: 'json' });

  function writerOf(write: (report: string) => Promise<void>) {
    const now = { replicas: [replica(READY)] };
    const writer = new ReportWriter({ routerUid: 'r', replicas: () => now.replicas, write, logger });
    return { now, writer };
  }

  it('writes changes that come together once, and nothing that says the same', async () => {
    const written: string[] = [];
    const { now, writer } = writerOf(async (report) => void written.push(report));
    for (let times = 0; times < 5; times++) writer.touch();
    await vi.advanceTimersByTimeAsync(1_000);
    writer.touch();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(written).toEqual([reportOf('r', now.replicas)]);
    now.replicas = [replica([{ type: 'lost', message: 'refused' }])];
    writer.touch();
    await vi.advanceTimersByTimeAsync(1_000);
    now.replicas = [replica([{ type: 'lost', message: 'refused again' }])];
    writer.touch();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(written).toHaveLength(2);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('takes in what changed during a write', async () => {
    const written: string[] = [];
    let finish = (): void => undefined;
    const { now, writer } = writerOf((report) => {
      written.push(report);
      return new Promise((resolve) => (finish = resolve));
    });
    writer.touch();
    await vi.advanceTimersByTimeAsync(100);
    now.replicas = [];
    writer.touch();
    finish();
    await vi.advanceTimersByTimeAsync(100);
    expect(written).toEqual([expect.stringContaining('ready'), reportOf('r', [])]);
  });

  it('tries again until it is written, each time with what is true then, ever more seldom', async () => {
    const tries: string[] = [];
    const { now, writer } = writerOf(async (report) => {
      tries.push(report);
      if (tries.length < 4) throw new Error('no connection');
    });
    writer.touch();
    await vi.advanceTimersByTimeAsync(100 + 250);
    now.replicas = [];
    await vi.advanceTimersByTimeAsync(499);
    expect(tries).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(tries).toHaveLength(4);
    expect(tries.at(-1)).toBe(reportOf('r', []));
    writer.close();
  });
});
