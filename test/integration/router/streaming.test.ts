import { connect } from 'node:http2';
import { status } from '@grpc/grpc-js';
import { afterEach, describe, expect, it } from 'vitest';
import { FinishReason } from '../../../gen/proto/internvl/v1/generation.ts';
import { parseDetails } from '../../../rpc/status.ts';
import { fakeTokenizer } from '../../support/fake-replica.ts';
import { GenerateEvent, GenerateRequest, Priority } from '../../../gen/proto/internvl/v1/inference.ts';
import { ask, Harness, until, type Setup, type Stream } from './harness.ts';

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

describe('an answer', () => {
  it('streams: started, deltas, finished with usage and timings', async () => {
    const { replicas, generate } = bind(await start({ replicas: [{}] }));
    const stream = await generate(ask({ logprobs: 0 })).end();
    expect(stream.error).toBeUndefined();
    expect(stream.events[0]!.$case).toBe('started');
    expect(stream.text).toBe(ANSWER);
    expect(stream.tokenIds).toEqual(fakeTokenizer().encode(ANSWER));
    const { finished, started } = stream;
    expect(started).toMatchObject({ replica: 'r0', imageTokens: 0 });
    expect(started!.promptTokenIds).toEqual(replicas[0]!.submits[0]!.tokenIds);
    expect(finished).toMatchObject({
      finishReason: FinishReason.STOP,
      usage: { promptTokens: started!.promptTokens, completionTokens: stream.tokenIds.length },
    });
    expect(finished!.timings!.totalMs).toBeGreaterThanOrEqual(finished!.timings!.timeToFirstTokenMs);
    const logprobs = stream.events.flatMap((event) => (event.$case === 'delta' ? event.value.logprobs : []));
    expect(logprobs.map(({ tokenId }) => tokenId)).toEqual(stream.tokenIds);
    expect(stream.events.filter(({ $case }) => $case === 'started')).toHaveLength(1);
  });

  it('is whole for each of more streams than one turn of the event loop serves, with steps that come faster than that', async () => {
    const { generate } = bind(await start({ replicas: [{ credits: 300, stepMs: 1 }] }));
    const streams = await Promise.all(
      Array.from({ length: 300 }, () => generate(ask({ logprobs: 0 })).end()),
    );
    const expected = fakeTokenizer().encode(ANSWER);
    for (const stream of streams) {
      const logprobs = stream.events.flatMap((event) =>
        event.$case === 'delta' ? event.value.logprobs : [],
      );
      expect(stream.text).toBe(ANSWER);
      expect(stream.tokenIds).toEqual(expected);
      expect(logprobs.map(({ tokenId }) => tokenId)).toEqual(expected);
    }
  });

  it('comes as one message from GenerateOnce', async () => {
    const { harness: h } = bind(await start({ replicas: [{}] }));
    const result = await h.once(ask({ sampling: { maxTokens: 3 } }));
    expect(result).toMatchObject({
      finishReason: FinishReason.LENGTH,
      replica: 'r0',
      usage: { completionTokens: 3 },
    });
    expect(result.requestId).not.toBe('');
    expect(result.tokenIds).toEqual(fakeTokenizer().encode(ANSWER).slice(0, 3));
  });

  it('ends before a stop string, takes the sequence off the replica, and shows no part of the stop string', async () => {
    const { replicas, generate } = bind(await start({ replicas: [{}] }));
    const stream = await generate(ask({ sampling: { ...ENDLESS, stop: ['lazy', 'fox jumps'] } })).end();
    expect(stream.text).toBe('The quick brown ');
    expect(stream.finished).toMatchObject({
      finishReason: FinishReason.STOP,
      matchedStop: 'fox jumps',
      usage: { completionTokens: stream.tokenIds.length },
    });
    await until(() => replicas[0]!.running === 0);
    expect(replicas[0]!.aborted).toEqual([replicas[0]!.submits[0]!.handle]);
  });

  it('tells the replica the limits that hold, and not the stop strings', async () => {
    const { replicas, generate } = bind(await start({ replicas: [{}] }));
    await generate(ask({ sampling: { temperature: 0, stop: ['zzz'], seed: 7n } })).end();
    expect(replicas[0]!.submits[0]!.sampling).toMatchObject({
      temperature: 0,
      stop: [],
      seed: 7n,
      maxTokens: 512,
    });
    expect(replicas[0]!.submits[0]).toMatchObject({ priority: 1, deadlineMs: 0 });
  });
});

describe('a call that is not waited for any more', () => {
  it('frees its sequence when the client cancels', async () => {
    const { replicas, generate, harness: h } = bind(await start({ replicas: [{}] }));
    const stream = await generate(ask({ sampling: ENDLESS })).tokens(3);
    stream.call.cancel();
    await stream.end();
    expect(stream.error?.code).toBe(status.CANCELLED);
    await until(() => replicas[0]!.running === 0);
    expect(replicas[0]!.aborted).toEqual([replicas[0]!.submits[0]!.handle]);
    expect(h.router.live).toBe(0);
  });

  it('is taken from the queue when the client cancels while it waits', async () => {
    const { replicas, generate, harness: h } = bind(await start({ replicas: [{ credits: 1 }] }));
    const first = await generate(ask({ sampling: ENDLESS })).tokens();
    const second = generate(ask());
    await until(() => h.router.live === 2);
    second.call.cancel();
    await until(() => h.router.live === 1);
    first.call.cancel();
    await until(() => replicas[0]!.running === 0);
    expect(replicas[0]!.submits).toHaveLength(1);
  });

  it('ends at its deadline, which the replica is told too', async () => {
    const { replicas, generate, harness: h } = bind(await start({ replicas: [{}] }));
    replicas[0]!.stalled = true;
    const stream = await generate(ask(), 300).end();
    expect(stream.error?.code).toBe(status.DEADLINE_EXCEEDED);
    await until(() => replicas[0]!.running === 0 && h.router.live === 0);
    const { deadlineMs } = replicas[0]!.submits[0]!;
    expect(deadlineMs).toBeGreaterThan(0);
    expect(deadlineMs).toBeLessThanOrEqual(300);
    replicas[0]!.resume();
  });

  it('gets what it had not read in few deltas, whole', async () => {
    const { harness: h } = bind(await start({ replicas: [{ stepMs: 1 }] }));
    const tokens = 1000;
    // A client that takes some dozens of deltas and then reads nothing until the answer is complete.
    const session = connect(`http://${h.address}`, { settings: { initialWindowSize: 1000 } });
    const stream = session.request({
      ':method': 'POST',
      ':path': '/internvl.v1.Inference/Generate',
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    const request = GenerateRequest.encode(
      ask({ sampling: { ignoreEos: true, maxTokens: tokens } }),
    ).finish();
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(request.length, 1);
    stream.end(Buffer.concat([prefix, request]));
    await until(() => h.router.live === 1);
    await until(() => h.router.live === 0);
    const parts: Buffer[] = [];
    for await (const part of stream) parts.push(part as Buffer);
    session.close();
    const events = messagesIn(Buffer.concat(parts)).map((bytes) => GenerateEvent.decode(bytes).event!);
    const deltas = events.flatMap((event) => (event.$case === 'delta' ? [event.value] : []));
    const last = events.at(-1);
    expect(deltas.flatMap(({ tokenIds }) => tokenIds)).toHaveLength(tokens);
    expect(textLength(deltas)).toBeGreaterThan(tokens);
    expect(deltas.map(({ text }) => text).join('')).toBe(ANSWER.repeat(tokens).slice(0, textLength(deltas)));
    expect(last?.$case === 'finished' && last.value.usage?.completionTokens).toBe(tokens);
    // Those before it lagged, and one for all that waited.
    expect(deltas.length).toBeLessThan(200);
  });

  it('is cut off when it reads too slowly, and disturbs nobody', async () => {
    const {
      replicas,
      generate,
      harness: h,
    } = bind(await start({ replicas: [{ stepMs: 0 }], dependencies: { maxUnreadBytes: 4096 } }));
    const slow = h.client.generate(ask({ sampling: { ...ENDLESS, maxTokens: 3900 }, logprobs: 20 }));
    const errors: Error[] = [];
    slow.on('error', (error) => errors.push(error));
    // A client that reads once and then no more: HTTP/2 flow control stops the router's writes.
    slow.once('data', () => slow.pause());
    await until(() => replicas[0]!.aborted.length === 1);
    expect(h.router.live).toBe(0);
    const other = await generate(ask()).end();
    expect(other.text).toBe(ANSWER);
    slow.resume();
    slow.on('data', () => undefined);
    await until(() => errors.length > 0);
    expect(errors[0]).toMatchObject({ code: status.RESOURCE_EXHAUSTED });
  });
});

describe('load', () => {
  it('serves 200 concurrent requests, each right, within credits', async () => {
    const { replicas, generate } = bind(await start({ replicas: [{ credits: 16 }, { credits: 16 }] }));
    const streams = await Promise.all(
      Array.from({ length: 200 }, (_, index) =>
        generate(ask({ text: `question ${index}`, sampling: { maxTokens: 1 + (index % 9) } })).end(),
      ),
    );
    const expected = fakeTokenizer().encode(ANSWER);
    for (const [index, stream] of streams.entries()) {
      expect(stream.error).toBeUndefined();
      expect(stream.tokenIds).toEqual(expected.slice(0, 1 + (index % 9)));
    }
    for (const replica of replicas) {
      expect(replica.creditViolations).toBe(0);
      expect(replica.duplicateHandles).toBe(0);
      // Neither replica is left out.
      expect(replica.submits.length).toBeGreaterThan(50);
    }
    // Requests that are placed together travel together.
    expect(Math.max(...replicas.flatMap((replica) => replica.batches))).toBeGreaterThan(1);
  });

  it('refuses what does not fit the queue, and says when to come back', async () => {
    const { generate, harness: h } = bind(
      await start({ replicas: [{ credits: 1 }], flags: ['--queue-max-requests', '2'] }),
    );
    const first = await generate(ask({ sampling: ENDLESS })).tokens();
    const waiting = [generate(ask()), generate(ask())];
    await until(() => h.router.live === 3);
    const refused = await generate(ask()).end();
    expect(refused.error?.code).toBe(status.RESOURCE_EXHAUSTED);
    expect(parseDetails(refused.error)).toMatchObject({ reason: 'QUEUE_FULL', metadata: { limit: '2' } });
    expect(parseDetails(refused.error).retryAfterMs).toBeGreaterThan(0);
    first.call.cancel();
    for (const stream of waiting) expect((await stream.end()).text).toBe(ANSWER);
  });

  it('serves the more urgent of those that wait first', async () => {
    const { replicas, generate, harness: h } = bind(await start({ replicas: [{ credits: 1 }] }));
    const first = await generate(ask({ sampling: ENDLESS })).tokens();
    const order = [Priority.BATCH, Priority.NORMAL, Priority.HIGH];
    const waiting: Stream[] = [];
    for (const priority of order) {
      waiting.push(generate(ask({ priority })));
      await until(() => h.router.live === 1 + waiting.length);
    }
    first.call.cancel();
    for (const stream of waiting) expect((await stream.end()).error).toBeUndefined();
    expect(replicas[0]!.submits.slice(1).map(({ priority }) => priority)).toEqual([2, 1, 0]);
  });

  it('keeps a conversation where its keys and values lie', async () => {
    const { replicas, generate } = bind(await start({ replicas: [{}, {}, {}] }));
    for (let turn = 0; turn < 9; turn++)
      await generate(ask({ text: `turn ${turn}`, affinityKey: 'talk' })).end();
    expect(replicas.map(({ submits }) => submits.length).toSorted((a, b) => a - b)).toEqual([0, 0, 9]);
  });

  it('gives up on a request that waited too long', async () => {
    const { generate } = bind(
      await start({ replicas: [{ credits: 1 }], flags: ['--queue-max-wait-ms', '200'] }),
    );
    const first = await generate(ask({ sampling: ENDLESS })).tokens();
    const late = await generate(ask()).end();
    expect(late.error?.code).toBe(status.RESOURCE_EXHAUSTED);
    expect(late.reason).toBe('QUEUE_TIMEOUT');
    first.call.cancel();
  });
});

function bind(h: Harness) {
  return { harness: h, replicas: h.replicas, generate: h.generate.bind(h) };
}

function messagesIn(body: Buffer): Buffer[] {
  const messages: Buffer[] = [];
  for (let at = 0; at < body.length;) {
    const end = at + 5 + body.readUInt32BE(at + 1);
    messages.push(body.subarray(at + 5, end));
    at = end;
  }
  return messages;
}

const textLength = (deltas: readonly { readonly text: string }[]): number =>
  deltas.reduce((sum, { text }) => sum + text.length, 0);
