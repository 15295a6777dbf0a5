import { status } from '@grpc/grpc-js';
import { afterEach, describe, expect, it } from 'vitest';
import { ReplicaState } from '../../../gen/proto/internvl/v1/inference.ts';
import type { FakeReplica } from '../../support/fake-replica.ts';
import { ask, Harness, until, type Setup } from './harness.ts';

let harness: Harness | undefined;
async function start(setup: Setup): Promise<Harness> {
  harness = await Harness.start(setup);
  harness.forgetProbes();
  return harness;
}
afterEach(async () => {
  await harness?.close();
  harness = undefined;
});

const ANSWER = 'The quick brown fox jumps over the lazy dog.';
const ENDLESS = { ignoreEos: true, maxTokens: 4000 };
const state = (h: Harness, index: number): ReplicaState => h.router.replicas[index]!.state;

describe('a replica that dies', () => {
  it('takes its streaming answers with it; what has no token yet moves over', async () => {
    const h = await start({ replicas: [{}, {}] });
    const [dying, other] = h.replicas as [FakeReplica, FakeReplica];
    const streams = Array.from({ length: 8 }, (_, index) =>
      h.generate(ask({ text: `long ${index}`, sampling: ENDLESS })),
    );
    await Promise.all(streams.map((stream) => stream.tokens()));
    const onDying = streams.filter((stream) => stream.started!.replica === 'r0');
    expect(onDying.length).toBeGreaterThan(0);
    expect(onDying.length).toBeLessThan(8);
    // New ones get no token on either: half of them are about to lose their replica.
    dying.stalled = true;
    other.stalled = true;
    const fresh = Array.from({ length: 8 }, (_, index) => h.generate(ask({ text: `fresh ${index}` })));
    await until(() => dying.submits.length + other.submits.length === 16);
    const moving = dying.submits.length - onDying.length;
    expect(moving).toBeGreaterThan(0);
    await dying.kill();
    for (const stream of onDying) {
      await stream.end();
      expect(stream.error?.code).toBe(status.UNAVAILABLE);
      expect(stream.reason).toBe('REPLICA_FAILED');
    }
    await until(() => other.submits.length === 16 - onDying.length);
    other.resume();
    for (const stream of fresh) {
      await stream.end();
      expect(stream.error).toBeUndefined();
      expect(stream.text).toBe(ANSWER);
      expect(stream.events.filter(({ $case }) => $case === 'started')).toHaveLength(1);
    }
    // Those on the other one never noticed.
    const unharmed = streams.filter((stream) => !onDying.includes(stream));
    for (const stream of unharmed) {
      expect(stream.ended).toBe(false);
      stream.call.cancel();
    }
  });

  it('is used again when it comes back, with empty caches', async () => {
    const h = await start({ replicas: [{}] });
    const [replica] = h.replicas as [FakeReplica];
    const question = ask({ images: [{ $case: 'data', value: Buffer.from('any bytes') }] });
    await h.generate(question).end();
    await replica.kill();
    await until(() => state(h, 0) === ReplicaState.CONNECTING);
    const waiting = h.generate(question);
    await until(() => h.router.live === 1);
    await replica.restart();
    expect((await waiting.end()).error).toBeUndefined();
    expect(replica.puts).toHaveLength(2);
  });

  it('may only be killed twice by the same request', async () => {
    const h = await start({ replicas: [{}, {}, {}] });
    for (const replica of h.replicas) {
      replica.onSubmit = ({ images }) => {
        // Only the poisonous one has a picture.
        if (images.length > 0) void replica.kill();
      };
    }
    const stream = await h.generate(ask({ images: [{ $case: 'data', value: Buffer.from('poison') }] })).end();
    expect(stream.error?.code).toBe(status.UNAVAILABLE);
    expect(stream.error!.details).toContain('2 replicas were lost');
    const alive = h.replicas.filter((_, index) => state(h, index) === ReplicaState.READY);
    expect(alive).toHaveLength(1);
    expect((await h.generate(ask()).end()).text).toBe(ANSWER);
  });

  it('that nobody replaces ends waiting requests with UNAVAILABLE', async () => {
    const h = await start({ replicas: [{}], flags: ['--queue-max-wait-ms', '300'] });
    await h.replicas[0]!.kill();
    await until(() => state(h, 0) === ReplicaState.CONNECTING);
    const stream = await h.generate(ask()).end();
    expect(stream.error?.code).toBe(status.UNAVAILABLE);
    expect(stream.reason).toBe('NO_REPLICA');
  });

  it('was never there: requests are held, then end with UNAVAILABLE', async () => {
    const h = await Harness.start({
      replicas: [],
      ready: 0,
      flags: ['--replica', 'gone=127.0.0.1:1', '--queue-max-wait-ms', '200'],
    });
    harness = h;
    const stream = await h.generate(ask()).end();
    expect(stream.error?.code).toBe(status.UNAVAILABLE);
    expect(stream.reason).toBe('NO_REPLICA');
  });
});

describe('an attempt that fails', () => {
  it('UNAVAILABLE moves elsewhere, at most twice', async () => {
    const h = await start({ replicas: [{}, {}, {}, {}] });
    const seen: string[] = [];
    for (const [index, replica] of h.replicas.entries()) {
      replica.reject = () => {
        seen.push(`r${index}`);
        return { code: status.UNAVAILABLE, reason: 'BUSY', message: 'no' };
      };
    }
    const stream = await h.generate(ask()).end();
    expect(stream.error?.code).toBe(status.UNAVAILABLE);
    expect(seen).toHaveLength(3);
    expect(new Set(seen).size).toBe(3);
  });

  it.each([
    [status.INVALID_ARGUMENT, 1],
    [status.RESOURCE_EXHAUSTED, 1],
    [status.INTERNAL, 2],
  ])('with status %i is tried %i times in all', async (code, times) => {
    const h = await start({ replicas: [{}, {}, {}, {}] });
    for (const replica of h.replicas) replica.reject = () => ({ code, reason: 'WHY', message: 'because' });
    const stream = await h.generate(ask()).end();
    expect(stream.error?.code).toBe(code);
    expect(stream.reason).toBe('WHY');
    expect(h.replicas.reduce((sum, replica) => sum + replica.submits.length, 0)).toBe(times);
  });

  it.each([0, 99, -1])('with %i, which is no error code, ends as INTERNAL', async (code) => {
    const h = await start({ replicas: [{}] });
    h.replicas[0]!.reject = () => ({ code, reason: '', message: 'odd' });
    const stream = await h.generate(ask()).end();
    expect(stream.error?.code).toBe(status.INTERNAL);
    expect(stream.reason).toBe('REJECTED');
  });

  it('after tokens were sent ends the call', async () => {
    const h = await start({ replicas: [{}, {}] });
    const stream = await h.generate(ask({ sampling: ENDLESS })).tokens(2);
    const replica = h.replicas.find(({ running }) => running > 0)!;
    replica.failHandle(replica.liveHandles[0]!, status.INTERNAL, 'ENGINE');
    await stream.end();
    expect(stream.reason).toBe('REPLICA_FAILED');
    expect(h.replicas.reduce((sum, { submits }) => sum + submits.length, 0)).toBe(1);
  });

  it('again and again ejects the replica until a probe passes', async () => {
    const breaker = {
      windowMs: 30_000,
      windowSize: 20,
      leastOutcomes: 3,
      failureRatio: 0.5,
      openMs: 50,
      mostOpenMs: 50,
    };
    const h = await start({ replicas: [{}, {}], dependencies: { breaker } });
    const [bad] = h.replicas as [FakeReplica, FakeReplica];
    bad.reject = () => ({ code: status.INTERNAL, reason: 'BROKEN', message: 'broken' });
    const ejected = async (): Promise<boolean> => {
      const stream = await h.generate(ask()).end();
      expect(stream.error).toBeUndefined(); // the other replica answers
      return state(h, 0) === ReplicaState.EJECTED;
    };
    while (!(await ejected()));
    expect(h.router.replicas[0]!.message).toContain('broken');
    bad.reject = undefined;
    await until(() => state(h, 0) === ReplicaState.READY);
  });

  it('on the only replica does not leave the pool empty', async () => {
    const breaker = {
      windowMs: 30_000,
      windowSize: 20,
      leastOutcomes: 3,
      failureRatio: 0.5,
      openMs: 60_000,
      mostOpenMs: 60_000,
    };
    const h = await start({ replicas: [{}], dependencies: { breaker } });
    const [replica] = h.replicas as [FakeReplica];
    replica.reject = () => ({ code: status.INTERNAL, reason: 'BROKEN', message: 'broken' });
    while (state(h, 0) !== ReplicaState.EJECTED) await h.generate(ask()).end();
    replica.reject = undefined;
    expect((await h.generate(ask()).end()).text).toBe(ANSWER);
  });
});

describe('a session', () => {
  it('that breaks off is opened again, and its handles are dead', async () => {
    const h = await start({ replicas: [{}] });
    const [replica] = h.replicas as [FakeReplica];
    const stream = await h.generate(ask({ sampling: ENDLESS })).tokens();
    replica.dropSessions();
    await stream.end();
    expect(stream.reason).toBe('REPLICA_FAILED');
    await h.ready(1);
    expect((await h.generate(ask()).end()).text).toBe(ANSWER);
  });

  it('that falls silent is given up', async () => {
    const h = await start({
      replicas: [{}],
      dependencies: { session: { silenceMs: 300, heartbeatMs: 10_000 } },
    });
    const [replica] = h.replicas as [FakeReplica];
    replica.stalled = true;
    const stream = h.generate(ask());
    await until(() => replica.sessions === 0);
    replica.resume();
    expect((await stream.end()).error).toBeUndefined();
  });

  it('with arrays that do not belong together is ended', async () => {
    const h = await start({ replicas: [{}] });
    const stream = await h.generate(ask({ sampling: ENDLESS })).tokens();
    h.replicas[0]!.sendRaw({
      $case: 'stepOutput',
      value: { step: 1, handles: [1], counts: [5], tokenIds: [1], logprobs: [], done: [], load: undefined },
    });
    await stream.end();
    expect(stream.error?.code).toBe(status.UNAVAILABLE);
    await h.ready(1);
  });

  it('ignores what belongs to no request', async () => {
    const h = await start({ replicas: [{}] });
    const [replica] = h.replicas as [FakeReplica];
    replica.sendRaw({ $case: 'rejected', value: { handle: 4242, code: 13, message: '', reason: '' } });
    replica.sendRaw({ $case: 'needImage', value: { hash: Buffer.alloc(32, 9) } });
    replica.sendRaw({
      $case: 'stepOutput',
      value: { step: 1, handles: [77], counts: [1], tokenIds: [1], logprobs: [], done: [], load: undefined },
    });
    expect((await h.generate(ask()).end()).text).toBe(ANSWER);
    expect(replica.sessions).toBe(1);
  });
});
