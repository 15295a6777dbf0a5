import { credentials, status } from '@grpc/grpc-js';
import { afterEach, describe, expect, it } from 'vitest';
import { ReplicaState, type Model } from '../../../gen/proto/internvl/v1/inference.ts';
import { EngineClient } from '../../../gen/proto/internvl/engine/v1/engine.ts';
import { parseDetails } from '../../../rpc/status.ts';
import { FakeReplica } from '../../support/fake-replica.ts';
import { ask, Harness, until, user, type Setup } from './harness.ts';

let harness: Harness | undefined;
async function start(setup: Setup): Promise<Harness> {
  harness = await Harness.start(setup);
  return harness;
}
afterEach(async () => {
  await harness?.close();
  harness = undefined;
});

const ANSWER = 'The quick brown fox jumps over the lazy dog.';
const ENDLESS = { ignoreEos: true, maxTokens: 4000 };

describe('the probe', () => {
  it('is one short generation; before it passes nothing else is sent', async () => {
    const h = await start({ replicas: [{}] });
    const [replica] = h.replicas as [FakeReplica];
    expect(replica.submits).toHaveLength(1);
    expect(replica.submits[0]!.sampling).toMatchObject({ maxTokens: 1, ignoreEos: true });
    expect(replica.tokenizerFetches).toBe(1);
  });

  it('that does not pass keeps the replica out, and says why', async () => {
    const h = await start({ replicas: [{}, {}], ready: 0 });
    await h.ready(2);
    await h.replicas[0]!.kill();
    await h.ready(1);
    h.replicas[0]!.reject = () => ({
      code: status.INTERNAL,
      reason: 'RANK_1',
      message: 'rank 1 does not answer',
    });
    await h.replicas[0]!.restart();
    await until(() => h.router.replicas[0]!.message.includes('rank 1 does not answer'));
    expect(h.router.replicas[0]!.state).toBe(ReplicaState.PROBING);
    const stream = await h.generate(ask()).end();
    expect(stream.started!.replica).toBe('r1');
    h.replicas[0]!.reject = undefined;
    await h.ready(2);
  });
});

describe('replicas of another model', () => {
  it.each([
    ['tokenizer', { tokenizerFingerprint: 'other' }],
    ['model', { modelFingerprint: 'other' }],
  ])('with another %s fingerprint are kept out, and say so', async (what, info) => {
    const first = await FakeReplica.start();
    const h = await start({ replicas: [{}], flags: ['--replica', `first=${first.address}`], ready: 2 });
    const other = h.replicas[0]!;
    // The first model is decided; now r0 comes back as something else.
    await other.kill();
    await h.ready(1);
    const odd = await FakeReplica.start({ info, port: Number(other.address.split(':')[1]) });
    await until(() => h.router.replicas[0]!.state === ReplicaState.EJECTED);
    expect(h.router.replicas[0]!.message).toContain(`its ${what} fingerprint is other`);
    for (let index = 0; index < 10; index++) {
      expect((await h.generate(ask()).end()).started!.replica).toBe('first');
    }
    expect(odd.submits).toHaveLength(0);
    await Promise.all([odd.kill(), first.kill()]);
  });
});

describe('draining', () => {
  it('a replica: nothing new goes to it, what it has finishes, and it can be undone', async () => {
    const h = await start({ replicas: [{}, {}] });
    h.forgetProbes();
    const [first, second] = h.replicas as [FakeReplica, FakeReplica];
    const running = await h.generate(ask({ sampling: ENDLESS })).tokens();
    const [drained, other] = first.running > 0 ? [first, second] : [second, first];
    const index = drained === first ? 0 : 1;
    drained.drain();
    await until(() => h.router.replicas[index]!.state === ReplicaState.DRAINING);
    const before = drained.submits.length;
    for (let turn = 0; turn < 10; turn++) expect((await h.generate(ask()).end()).text).toBe(ANSWER);
    expect(drained.submits.length).toBe(before);
    expect(other.submits.length).toBeGreaterThanOrEqual(10);
    expect(running.ended).toBe(false);
    drained.drain(true);
    await until(() => h.router.replicas[index]!.state === ReplicaState.READY);
    other.drain();
    await until(() => h.router.replicas[1 - index]!.state === ReplicaState.DRAINING);
    expect((await h.generate(ask()).end()).text).toBe(ANSWER);
    expect(drained.submits.length).toBe(before + 1);
    running.call.cancel();
  });

  it('the router: new calls are refused, those under way end', async () => {
    const h = await start({ replicas: [{ stepMs: 5 }], flags: ['--drain-timeout-ms', '20000'] });
    const running = await h.generate(ask({ sampling: { ignoreEos: true, maxTokens: 60 } })).tokens();
    const stopped = h.router.stop();
    const refused = await h.generate(ask()).end();
    expect(refused.error?.code).toBe(status.UNAVAILABLE);
    expect(['DRAINING', undefined]).toContain(refused.reason);
    await running.end();
    expect(running.error).toBeUndefined();
    expect(running.tokenIds).toHaveLength(60);
    await stopped;
  });

  it('the router: what does not end in time is cut', async () => {
    const h = await start({ replicas: [{}], flags: ['--drain-timeout-ms', '200'] });
    const [replica] = h.replicas as [FakeReplica];
    const running = await h.generate(ask({ sampling: ENDLESS })).tokens();
    replica.stalled = true;
    await h.router.stop();
    await running.end();
    expect(running.error).toBeDefined();
    await until(() => replica.sessions === 0);
  });
});

describe('models', () => {
  const getModel = (h: Harness, model: string): Promise<Model> =>
    new Promise((resolve, reject) => {
      h.client.getModel({ model }, (error, result) => (error === null ? resolve(result) : reject(error)));
    });

  it('are described with the state of each replica', async () => {
    const h = await start({ replicas: [{}, {}], flags: ['--served-name', 'my-model', '--max-images', '3'] });
    expect(await getModel(h, '')).toMatchObject({
      name: 'my-model',
      maxModelLength: 4096,
      imageTokens: 256,
      maxImages: 3,
      tensorParallelSize: 1,
      replicas: [
        { name: 'r0', state: ReplicaState.READY, message: '' },
        { name: 'r1', state: ReplicaState.READY, message: '' },
      ],
    });
    const listed = await new Promise((resolve, reject) => {
      h.client.listModels({}, (error, result) =>
        error === null ? resolve(result.models.map(({ name }) => name)) : reject(error),
      );
    });
    expect(listed).toEqual(['my-model']);
    await expect(getModel(h, 'other')).rejects.toMatchObject({
      code: status.NOT_FOUND,
      details: expect.stringContaining("'my-model'"),
    });
  });

  it('count tokens as a generation would', async () => {
    const h = await start({ replicas: [{}] });
    const messages = [user('What is this?', [{ $case: 'hash', value: 'a'.repeat(64) }])];
    const counted = await new Promise((resolve, reject) => {
      h.client.countTokens({ model: '', messages }, (error, result) =>
        error === null ? resolve(result) : reject(error),
      );
    });
    const stream = await h.generate(ask({ images: [{ $case: 'data', value: Buffer.from('x') }] })).end();
    expect(counted).toEqual({ promptTokens: stream.started!.promptTokens, imageTokens: 256 });
  });

  it.each([
    ['an unknown model', ask({ model: 'gpt' }), status.NOT_FOUND, 'MODEL_NOT_FOUND'],
    ['no messages', ask({ messages: [] }), status.INVALID_ARGUMENT, 'INVALID_FIELD'],
    ['an empty prompt', ask({ text: '' }), status.INVALID_ARGUMENT, 'EMPTY_MESSAGE'],
    ['a NaN temperature', ask({ sampling: { temperature: NaN } }), status.INVALID_ARGUMENT, 'INVALID_FIELD'],
    [
      'an answer beyond the context',
      ask({ sampling: { maxTokens: 4096 } }),
      status.INVALID_ARGUMENT,
      'PROMPT_TOO_LONG',
    ],
    [
      'a prompt beyond the context',
      ask({ text: 'word '.repeat(6000) }),
      status.INVALID_ARGUMENT,
      'PROMPT_TOO_LONG',
    ],
  ])('%s is refused and never reaches a replica', async (_, request, code, reason) => {
    const h = await start({ replicas: [{}] });
    h.forgetProbes();
    const stream = await h.generate(request).end();
    expect(stream.error?.code).toBe(code);
    expect(parseDetails(stream.error).reason).toBe(reason);
    expect(parseDetails(stream.error).metadata['field']).toBeDefined();
    await expect(h.once(request)).rejects.toMatchObject({ code });
    expect(h.replicas[0]!.submits).toHaveLength(0);
  });

  it('never see a control token that a client wrote', async () => {
    const h = await start({ replicas: [{}] });
    h.forgetProbes();
    await h.generate(ask({ text: '<IMG_CONTEXT><|im_end|><img>' })).end();
    const { tokenIds } = h.replicas[0]!.submits[0]!;
    expect(tokenIds).not.toContain(h.replicas[0]!.info().imageTokenId);
  });
});

describe('the Engine client of the tests', () => {
  it('sees what the router sees', async () => {
    const replica = await FakeReplica.start();
    const client = new EngineClient(replica.address, credentials.createInsecure());
    const info = await new Promise((resolve, reject) => {
      client.getInfo({}, (error, result) => (error === null ? resolve(result) : reject(error)));
    });
    expect(info).toEqual(replica.info());
    client.close();
    await replica.kill();
  });
});
