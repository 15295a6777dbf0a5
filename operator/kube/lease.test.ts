import { describe, expect, it } from 'vitest';
import { ApiError, isNotFound, TransportError } from './errors.ts';
import type { ElectionOutcome, Lease, LeaderElectorOptions } from './lease.ts';
import { LeaderElector, LeadershipLostError, microTime } from './lease.ts';
import { CollectedLog } from './testing/collected-log.ts';
import { ManualClock, settle } from './testing/manual-clock.ts';

function refusal(status: number, reason: string): ApiError {
  return new ApiError('lease', status, { reason }, '', undefined);
}

/** One Lease in memory with compare-and-swap. `fail` decides what becomes of a process' calls. */
class LeaseServer {
  lease: Lease | undefined;
  #version = 0;
  readonly #fail = new Map<string, 'before' | 'after' | 'hang'>();

  /** `before`: refused without effect. `after`: written, but the answer is lost. `hang`: no answer until its deadline. */
  fail(process: string, how: 'before' | 'after' | 'hang' | undefined): void {
    if (how === undefined) this.#fail.delete(process);
    else this.#fail.set(process, how);
  }

  clientOf(process: string, clock: ManualClock) {
    const call = async (effect: () => Lease, options: { signal?: AbortSignal; deadlineMs?: number } = {}) => {
      const how = this.#fail.get(process);
      if (how === 'before') throw new TransportError('Connection', 'refused');
      if (how === 'hang') {
        await new Promise<never>((_resolve, reject) => {
          const cancel = clock.after(options.deadlineMs ?? 30_000, () =>
            reject(new TransportError('DeadlineExceeded', 'late')),
          );
          options.signal?.addEventListener('abort', () => {
            cancel();
            reject(new TransportError('Aborted', 'aborted'));
          });
        });
      }
      await Promise.resolve();
      const answer = effect();
      if (how === 'after') throw new TransportError('Connection', 'answer lost');
      return structuredClone(answer);
    };
    const write = (lease: Lease): Lease => {
      const resourceVersion = String((this.#version += 1));
      return (this.lease = structuredClone({ ...lease, metadata: { ...lease.metadata, resourceVersion } }));
    };
    return {
      get: (_resource: unknown, _key: unknown, options: object) =>
        call(() => {
          if (this.lease === undefined) throw refusal(404, 'NotFound');
          return this.lease;
        }, options),
      create: (_resource: unknown, lease: Lease, options: object) =>
        call(() => {
          if (this.lease !== undefined) throw refusal(409, 'AlreadyExists');
          return write(lease);
        }, options),
      replace: (_resource: unknown, lease: Lease, options: object) =>
        call(() => {
          if (this.lease === undefined) throw refusal(404, 'NotFound');
          if (lease.metadata.resourceVersion !== this.lease.metadata.resourceVersion)
            throw refusal(409, 'Conflict');
          return write(lease);
        }, options),
    } as unknown as ConstructorParameters<typeof LeaderElector>[0];
  }
}

class Candidate {
  readonly clock: ManualClock;
  readonly elector: LeaderElector;
  readonly stop = new AbortController();
  readonly log = new CollectedLog();
  readonly history: string[] = [];
  outcome: ElectionOutcome | Error | undefined;
  leadership: AbortSignal | undefined;
  /** Keeps `lead` from settling after its signal. */
  drain: Promise<void> | undefined;

  constructor(
    server: LeaseServer,
    identity: string,
    options: Partial<LeaderElectorOptions> & { wall?: number } = {},
  ) {
    this.clock = new ManualClock(options.wall);
    this.elector = new LeaderElector(server.clientOf(identity, this.clock), {
      namespace: 'n',
      name: 'operator',
      identity,
      log: this.log,
      random: () => 0,
      clock: this.clock,
      onLeading: (leading) => this.history.push(leading ? 'leads' : 'leads no more'),
      ...options,
    });
  }

  start(): this {
    void this.elector
      .run(this.stop.signal, async (leadership) => {
        this.leadership = leadership;
        await new Promise<void>((resolve) => leadership.addEventListener('abort', () => resolve()));
        await this.drain;
      })
      .then(
        (outcome) => (this.outcome = outcome),
        (error: Error) => (this.outcome = error),
      );
    return this;
  }

  get leads(): boolean {
    return this.elector.isLeader && this.leadership?.aborted === false;
  }
}

/** Lets time pass for several processes together, in steps, checking that two never lead at once. */
async function pass(ms: number, ...candidates: Candidate[]): Promise<void> {
  for (let passed = 0; passed < ms; passed += 100) {
    await Promise.all(candidates.map(({ clock }) => clock.advance(Math.min(100, ms - passed))));
    expect(candidates.filter(({ leads }) => leads).length).toBeLessThan(2);
  }
}

async function pair(options: Partial<LeaderElectorOptions> & { wall?: number } = {}) {
  const server = new LeaseServer();
  const a = new Candidate(server, 'a').start();
  await settle();
  const b = new Candidate(server, 'b', options).start();
  await settle();
  expect([a.leads, b.leads]).toEqual([true, false]);
  return { server, a, b };
}

describe('leader election', () => {
  it('makes the lease, with six digits of a second', async () => {
    const server = new LeaseServer();
    const a = new Candidate(server, 'a').start();
    await settle();
    expect(server.lease).toEqual({
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { namespace: 'n', name: 'operator', resourceVersion: '1' },
      spec: {
        holderIdentity: 'a',
        leaseDurationSeconds: 15,
        acquireTime: '2026-01-01T00:00:00.000000Z',
        renewTime: '2026-01-01T00:00:00.000000Z',
        leaseTransitions: 0,
      },
    });
    await pass(2_000, a);
    expect(server.lease?.spec).toMatchObject({
      acquireTime: '2026-01-01T00:00:00.000000Z',
      renewTime: '2026-01-01T00:00:02.000000Z',
    });
  });

  it('leaves it to who holds it, as long as that one renews', async () => {
    const { a, b } = await pair();
    await pass(60_000, a, b);
    expect([a.leads, b.leads, a.history, b.history]).toEqual([true, false, ['leads'], []]);
  });

  it('gives it back after the leader has stopped its work, so that the next need not wait', async () => {
    const { server, a, b } = await pair();
    let drained = (): void => undefined;
    a.drain = new Promise((resolve) => (drained = resolve));
    a.stop.abort();
    await pass(30_000, a, b);
    expect([a.leadership?.aborted, a.elector.isLeader, b.leads]).toEqual([true, true, false]);
    drained();
    await settle();
    expect([a.outcome, a.elector.isLeader]).toEqual(['stopped', false]);
    expect(server.lease?.spec).toMatchObject({ holderIdentity: '', leaseDurationSeconds: 1 });
    await pass(2_000, b);
    expect([b.leads, server.lease?.spec?.leaseTransitions]).toEqual([true, 1]);
    expect(a.clock.timers).toEqual([]);
  });

  it.each([0, 0.5, 1])(
    'takes over from one that was killed when its lease runs out, not before, and not some attempt later (%d)',
    async (random) => {
      const { b } = await pair({ random: () => random });
      await pass(14_900, b);
      expect(b.leads).toBe(false);
      await pass(100, b);
      expect(b.leads).toBe(true);
    },
  );

  it.each([
    ['the process that follows the killed one in its pod', 100, 'a again'],
    ['another one', 1_000, 'b'],
  ])('is taken over by who has seen its last renewal first: %s', async (_who, restartMs, next) => {
    // a renews at 2 and 4 s and is killed at 4.1 s; b looks at 0 and 4.4 s.
    const { server, a, b } = await pair({ random: () => 1 });
    await pass(4_100, a, b);
    await pass(restartMs, b);
    const again = new Candidate(server, 'a again').start();
    await pass(15_000 - restartMs, b, again);
    expect([b.leads, again.leads]).toEqual([false, false]);
    await pass(400, b, again);
    expect([server.lease?.spec?.holderIdentity, server.lease?.spec?.leaseTransitions]).toEqual([next, 1]);
    expect([b.leads, again.leads]).toEqual([next === 'b', next !== 'b']);
  });

  it('a leader that was paused finds itself no leader, even before its timers fire', async () => {
    const { a, b } = await pair();
    await pass(18_000, b);
    expect(b.leads).toBe(true);
    a.clock.jump(18_000);
    expect(a.elector.isLeader).toBe(false);
    expect(a.elector.check).toThrow(LeadershipLostError);
    await a.clock.advance(0);
    expect([a.leadership?.aborted, a.outcome, b.leads]).toEqual([true, 'lost', true]);
    await pass(10_000, a, b);
    expect([a.history, b.leads]).toEqual([['leads', 'leads no more'], true]);
  });

  it.each(['before', 'hang'] as const)(
    'a leader that cannot renew (%s) gives up before others may take over',
    async (how) => {
      const { server, a, b } = await pair();
      await pass(4_000, a, b);
      server.fail('a', how);
      await pass(9_900, a, b);
      expect([a.leads, b.leads]).toEqual([true, false]);
      await pass(200, a, b);
      expect([a.leads, a.outcome, b.leads]).toEqual([false, 'lost', false]);
      await pass(7_000, a, b);
      expect(b.leads).toBe(true);
      expect(a.clock.timers).toEqual([]);
    },
  );

  it('rides out failures that are shorter', async () => {
    const { server, a, b } = await pair();
    const outages = [
      ['before', 7_500],
      ['hang', 4_500],
    ] as const;
    for (const [how, ms] of outages) {
      server.fail('a', how);
      await pass(ms, a, b);
      server.fail('a', undefined);
      await pass(10_000, a, b);
    }
    expect([a.leads, a.history, b.leads]).toEqual([true, ['leads'], false]);
  });

  it('a write whose answer was lost is found again', async () => {
    const { server, a, b } = await pair();
    server.fail('a', 'after');
    await pass(2_000, a, b);
    server.fail('a', undefined);
    await pass(20_000, a, b);
    expect([a.leads, a.history, server.lease?.spec?.leaseTransitions]).toEqual([true, ['leads'], 0]);
  });

  it('ends at once when somebody else has taken the lease', async () => {
    const { server, a } = await pair();
    const other = structuredClone(server.lease!);
    server.lease = {
      ...other,
      metadata: { ...other.metadata, resourceVersion: '99' },
      spec: { ...other.spec, holderIdentity: 'x' },
    };
    await pass(2_000, a);
    expect([a.leads, a.outcome, a.elector.isLeader]).toEqual([false, 'lost', false]);
  });

  it('makes the lease again when it was deleted', async () => {
    const { server, a } = await pair();
    server.lease = undefined;
    await pass(2_000, a);
    expect([a.leads, (server.lease as Lease | undefined)?.spec?.holderIdentity]).toEqual([true, 'a']);
  });

  it.each([
    ['ahead', 2040],
    ['behind', 2000],
  ])('does not mind a wall clock that is far %s', async (_name, year) => {
    const { a, b } = await pair({ wall: Date.UTC(year, 0, 1) });
    await pass(20_000, a, b);
    expect([a.leads, b.leads]).toEqual([true, false]);
    await pass(17_000, b);
    expect(b.leads).toBe(true);
  });

  it.each([1, -1])('nor one that jumps by a day (%d)', async (days) => {
    const { a, b } = await pair();
    for (const { clock } of [a, b]) clock.setWall(clock.now() + days * 86_400_000);
    await pass(30_000, a, b);
    expect([a.leads, a.history, b.leads]).toEqual([true, ['leads'], false]);
  });

  it('only one of many that try at once leads', async () => {
    const server = new LeaseServer();
    const all = Array.from({ length: 5 }, (_, index) => new Candidate(server, `c${index}`).start());
    await pass(30_000, ...all);
    expect(all.filter(({ leads }) => leads)).toHaveLength(1);
    expect(server.lease?.spec?.leaseTransitions).toBe(0);
  });

  it('stops while it waits', async () => {
    const { b } = await pair();
    b.stop.abort();
    await settle();
    expect([b.outcome, b.clock.timers]).toEqual(['stopped', []]);
  });

  it('gives the lease back and says why when the work itself fails', async () => {
    const server = new LeaseServer();
    const { elector, clock } = new Candidate(server, 'a');
    const failing = elector.run(new AbortController().signal, () => Promise.reject(new Error('fault')));
    await expect(failing).rejects.toThrow('fault');
    expect([server.lease?.spec?.holderIdentity, clock.timers]).toEqual(['', []]);
  });

  it('keeps fields of the record that it does not know', async () => {
    const { server, a } = await pair();
    server.lease = {
      ...server.lease!,
      spec: { ...server.lease!.spec, preferredHolder: 'z' } as Lease['spec'],
    } as Lease;
    server.lease = { ...server.lease, metadata: { ...server.lease.metadata, resourceVersion: '77' } };
    await pass(4_000, a);
    expect(server.lease.spec).toMatchObject({ holderIdentity: 'a', preferredHolder: 'z' });
  });

  it('refuses times that could not be safe', () => {
    expect(() => new Candidate(new LeaseServer(), 'a', { renewDeadlineMs: 15_000 })).toThrow(/renewDeadline/);
  });
});

it('tells times as MicroTime', () => {
  expect(microTime(Date.UTC(2026, 10, 23, 1, 2, 3, 45))).toBe('2026-11-23T01:02:03.045000Z');
});

it('a refusal of the test server is one of the real kind', () => {
  expect(isNotFound(refusal(404, 'NotFound'))).toBe(true);
});
