// The Engine service of one process over the simulated engine: what routers may rely on, and what bad input may not do.

import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { EngineClient, TokenizerChunk } from '../../../gen/proto/internvl/engine/v1/engine.ts';
import { FinishReason } from '../../../gen/proto/internvl/v1/generation.ts';
import { parseDetails } from '../../../rpc/status.ts';
import { FIXTURES, freeAddress, startRank, stopAll } from './rank-processes.ts';
import type { RankProcess } from './rank-processes.ts';
import { GREEDY, RouterSession, connect, generate, putImage, submit } from './router-session.ts';

const TINY = join(FIXTURES, 'checkpoints/tiny');
const SIMULATION = {
  stepUs: 2000,
  stepUsPerSequence: 0,
  prefillUsPerToken: 0,
  maxModelLength: 4096,
  kvBlocks: 4096,
};
const MAX_SEQUENCES = 8;
const MAX_IMAGE_BYTES = 1 << 20;

let replica: RankProcess;
let client: EngineClient;
let metricsAddress: string;
const sessions: RouterSession[] = [];

beforeAll(async () => {
  metricsAddress = await freeAddress();
  replica = await startRank([
    '--model',
    TINY,
    '--served-name',
    'tiny',
    '--simulate',
    JSON.stringify(SIMULATION),
    '--max-sequences',
    String(MAX_SEQUENCES),
    '--max-image-bytes',
    String(MAX_IMAGE_BYTES),
    '--metrics-listen',
    metricsAddress,
  ]);
  await replica.log('serving');
  client = connect(replica.address);
});

afterEach(() => {
  for (const session of sessions.splice(0)) session.cancel();
});

afterAll(async () => {
  client.close();
  await stopAll();
});

async function open(): Promise<RouterSession> {
  const session = await RouterSession.open(client);
  sessions.push(session);
  return session;
}

const long = { ...GREEDY, maxTokens: 3000, ignoreEos: true };
const refused = (promise: Promise<unknown>): Promise<ServiceError> =>
  promise.then(
    () => Promise.reject(new Error('the call was answered')),
    (err: unknown) => err as ServiceError,
  );

describe('Engine.Session', () => {
  it('welcomes with what a router must know', async () => {
    const session = await open();
    expect(session.welcome!.info).toMatchObject({
      model: 'tiny',
      maxSequences: MAX_SEQUENCES,
      maxImages: 4,
      imageTokens: 256,
      maxImageBytes: MAX_IMAGE_BYTES,
    });
    expect(session.welcome!.engineEpoch).not.toBe('');
    expect(session.welcome!.load).toMatchObject({ running: 0, waiting: 0, lastSubmitSeq: 0 });
    expect(session.welcome!.load!.credits).toBeGreaterThanOrEqual(MAX_SEQUENCES);
  });

  it('gives every submission its tokens and one end', async () => {
    const session = await open();
    const handles = Array.from({ length: 12 }, (_, index) => index + 1);
    session.submit(
      ...handles.map((handle) =>
        submit({ handle, tokenIds: [1, 2, 3], sampling: { ...GREEDY, maxTokens: handle } }),
      ),
    );
    await session.until(() => session.done.size === handles.length);
    for (const handle of handles) {
      expect(session.tokens.get(handle)).toHaveLength(handle);
      expect(session.done.get(handle)).toMatchObject({ finishReason: FinishReason.LENGTH });
    }
    expect(session.load!.lastSubmitSeq).toBe(12);
    const ends = session.messages.flatMap((message) =>
      message?.$case === 'stepOutput' ? message.value.done.map(({ handle }) => handle) : [],
    );
    expect(ends.sort((a, b) => a - b)).toEqual(handles);
  });

  it('takes back credits as they are used and shares them among sessions', async () => {
    const first = await open();
    const all = first.load!.credits;
    first.submit(...[1, 2, 3].map((handle) => submit({ handle, tokenIds: [1], sampling: long })));
    await first.until(() => first.load!.lastSubmitSeq === 3 && first.load!.credits === all - 3);
    const second = await open();
    await first.until(() => first.load!.credits === Math.floor((all - 3) / 2));
    expect(second.load!.credits).toBe(Math.floor((all - 3) / 2));
    second.cancel();
    await first.until(() => first.load!.credits === all - 3);
    first.send({ $case: 'abort', value: { handles: [1, 2, 3] } });
    await first.until(() => first.load!.credits === all);
    expect([...first.done.values()].map(({ finishReason }) => finishReason)).toEqual(
      [1, 2, 3].map(() => FinishReason.ABORT),
    );
  });

  it('refuses what a router sends far beyond its credits, and only that', async () => {
    const session = await open();
    const handles = Array.from({ length: 100 }, (_, index) => index + 1);
    session.submit(...handles.map((handle) => submit({ handle, tokenIds: [1] })));
    await session.until(() => session.done.size + session.rejected.size === handles.length);
    expect(session.rejected.size).toBeGreaterThan(0);
    expect(session.done.size).toBeGreaterThanOrEqual(MAX_SEQUENCES);
    for (const rejected of session.rejected.values()) {
      expect(rejected).toMatchObject({ code: status.RESOURCE_EXHAUSTED, reason: 'OVERLOADED' });
    }
  });

  it('ends a submission at its deadline', async () => {
    const session = await open();
    session.submit(submit({ handle: 1, tokenIds: [1], sampling: long, deadlineMs: 40 }));
    await session.until(() => session.done.has(1));
    expect(session.done.get(1)!.finishReason).toBe(FinishReason.ABORT);
    expect(session.tokens.get(1)!.length).toBeLessThan(3000);
  });

  it.each([
    ['no tokens', { tokenIds: [] }, 'EMPTY_PROMPT'],
    ['a token outside the vocabulary', { tokenIds: [1, 4_000_000_000] }, 'INVALID_TOKEN'],
    ['too long a prompt', { tokenIds: Array.from({ length: 5000 }, () => 1) }, 'CONTEXT_LENGTH_EXCEEDED'],
    [
      'a negative temperature',
      { tokenIds: [1], sampling: { ...GREEDY, temperature: -1 } },
      'INVALID_SAMPLING',
    ],
    ['a NaN', { tokenIds: [1], sampling: { ...GREEDY, topP: NaN } }, 'INVALID_SAMPLING'],
    [
      'a short hash',
      { tokenIds: [1], images: [{ hash: Buffer.alloc(3), offset: 0, length: 1 }] },
      'INVALID_IMAGE_HASH',
    ],
    [
      'a picture outside the prompt',
      { tokenIds: [1], images: [{ hash: Buffer.alloc(32), offset: 0, length: 256 }] },
      'INVALID_IMAGE_SPAN',
    ],
    [
      'a picture over tokens that are not the image token',
      {
        tokenIds: Array.from({ length: 256 }, () => 1),
        images: [{ hash: Buffer.alloc(32), offset: 0, length: 256 }],
      },
      'INVALID_IMAGE_SPAN',
    ],
  ])('rejects %s and disturbs nothing else', async (_, fields, reason) => {
    const session = await open();
    session.submit(
      submit({ handle: 1, tokenIds: [1], sampling: { ...GREEDY, maxTokens: 20 } }),
      submit({ handle: 2, ...fields }),
      submit({ handle: 3, tokenIds: [1], sampling: { ...GREEDY, maxTokens: 20 } }),
    );
    await session.until(() => session.done.has(1) && session.done.has(3) && session.rejected.has(2));
    expect(session.rejected.get(2)).toMatchObject({ code: status.INVALID_ARGUMENT, reason });
  });

  it('ends a session that does not begin with hello', async () => {
    const session = new RouterSession(client);
    session.submit(submit({ handle: 1, tokenIds: [1] }));
    const failure = await session.failure();
    expect(failure.code).toBe(status.INVALID_ARGUMENT);
    expect(parseDetails(failure).reason).toBe('HELLO_EXPECTED');
  });

  it('ends a session that submits a live handle again', async () => {
    const session = await open();
    session.submit(submit({ handle: 1, tokenIds: [1], sampling: long }));
    session.submit(submit({ handle: 1, tokenIds: [1] }));
    expect(parseDetails(await session.failure()).reason).toBe('DUPLICATE_HANDLE');
  });

  it('drains, and takes submissions again when that is undone', async () => {
    const session = await open();
    const drain = (undo: boolean): Promise<void> =>
      new Promise((resolve, reject) => client.drain({ undo }, (err) => (err ? reject(err) : resolve())));
    session.submit(submit({ handle: 1, tokenIds: [1], sampling: { ...GREEDY, maxTokens: 50 } }));
    await session.until(() => session.tokens.has(1));
    await drain(false);
    await session.until(() => session.load!.credits === 0);
    session.submit(submit({ handle: 2, tokenIds: [1] }));
    await session.until(() => session.rejected.has(2) && session.done.has(1));
    expect(session.rejected.get(2)).toMatchObject({ code: status.UNAVAILABLE, reason: 'DRAINING' });
    await drain(true);
    await session.until(() => session.load!.credits > 0);
    session.submit(submit({ handle: 3, tokenIds: [1] }));
    await session.until(() => session.done.has(3));
    const notes = session.messages.flatMap((message) =>
      message?.$case === 'draining' ? [message.value.undone] : [],
    );
    expect(notes).toEqual([false, true]);
  });
});

describe('pictures', () => {
  const file = readFileSync(join(FIXTURES, 'images/p6_rgba.png'));
  const hash = createHash('sha256').update(file).digest();

  function withPicture(session: RouterSession, handle: number, pictureHash: Buffer) {
    const { imageTokenId, imageTokens } = session.welcome!.info!;
    return submit({
      handle,
      tokenIds: [1, ...Array.from({ length: imageTokens }, () => imageTokenId), 2],
      images: [{ hash: pictureHash, offset: 1, length: imageTokens }],
      sampling: { ...GREEDY, maxTokens: 3 },
    });
  }

  it('are asked for once and let every submission go that waits for them', async () => {
    const session = await open();
    session.submit(withPicture(session, 1, hash), withPicture(session, 2, hash));
    await session.until(() => session.needed.includes(hash.toString('hex')));
    session.submit(submit({ handle: 3, tokenIds: [1] }));
    await session.until(() => session.done.has(3));
    expect(session.done.size).toBe(1);
    expect(await putImage(client, file)).toEqual({ width: 333, height: 517 });
    await session.until(() => session.done.size === 3);
  });

  it('that are broken reject what waits for them', async () => {
    const broken = file.subarray(0, 2000);
    const brokenHash = createHash('sha256').update(broken).digest();
    const session = await open();
    session.submit(withPicture(session, 1, brokenHash));
    await session.until(() => session.needed.length === 1);
    const err = await refused(putImage(client, broken));
    expect(err.code).toBe(status.INVALID_ARGUMENT);
    expect(parseDetails(err).reason).toBe('IMAGE_CORRUPT');
    await session.until(() => session.rejected.has(1));
    expect(session.rejected.get(1)).toMatchObject({
      code: status.INVALID_ARGUMENT,
      reason: 'IMAGE_CORRUPT',
    });
  });

  it('that never come can be given up by abort', async () => {
    const session = await open();
    session.submit(withPicture(session, 1, randomBytes(32)));
    await session.until(() => session.needed.length === 1);
    session.send({ $case: 'abort', value: { handles: [1] } });
    await session.until(() => session.rejected.has(1));
    expect(session.rejected.get(1)!.code).toBe(status.CANCELLED);
  });

  it.each([
    ['is over the limit', { sizeBytes: MAX_IMAGE_BYTES + 1 }, 'IMAGE_TOO_LARGE', String(MAX_IMAGE_BYTES)],
    ['is empty', { sizeBytes: 0 }, 'IMAGE_TOO_LARGE', '0 bytes'],
    ['has more bytes than announced', { sizeBytes: 10 }, 'IMAGE_SIZE_MISMATCH', '10 announced'],
    ['has fewer bytes than announced', { sizeBytes: 1 << 20 }, 'IMAGE_SIZE_MISMATCH', '1048576 announced'],
    ['has another hash', { hash: Buffer.alloc(32) }, 'IMAGE_HASH_MISMATCH', '000000'],
    ['has half a hash', { hash: Buffer.alloc(16) }, 'INVALID_IMAGE_HASH', '16 bytes'],
  ])('are refused when the file %s', async (_, options, reason, text) => {
    const err = await refused(putImage(client, file, options));
    expect(err.code).toBe(status.INVALID_ARGUMENT);
    expect(parseDetails(err).reason).toBe(reason);
    expect(err.details).toContain(text);
  });

  it('are refused by their announced size before the rest is read', async () => {
    const err = await refused(putImage(client, Buffer.alloc(64 << 20)));
    expect(parseDetails(err)).toMatchObject({
      reason: 'IMAGE_TOO_LARGE',
      metadata: { limit: String(MAX_IMAGE_BYTES), size: String(64 << 20) },
    });
  });

  it('that are no pictures are named', async () => {
    const err = await refused(putImage(client, Buffer.from('GET / HTTP/1.1\r\n\r\n')));
    expect(parseDetails(err).reason).toBe('IMAGE_UNSUPPORTED');
  });
});

describe('the other calls', () => {
  it('stream one generation for debugging', async () => {
    const { tokenIds, done } = await generate(client, [1, 2, 3], { maxTokens: 5 });
    expect(tokenIds).toHaveLength(5);
    expect(done).toMatchObject({ finishReason: FinishReason.LENGTH });
    const err = await refused(generate(client, []));
    expect(err.code).toBe(status.INVALID_ARGUMENT);
    expect(parseDetails(err).reason).toBe('EMPTY_PROMPT');
  });

  it('hand out the tokenizer files in pieces', async () => {
    const files = new Map<string, Buffer[]>();
    let largest = 0;
    for await (const { fileName, chunk } of client.getTokenizer({}) as AsyncIterable<TokenizerChunk>) {
      files.set(fileName, [...(files.get(fileName) ?? []), chunk]);
      largest = Math.max(largest, chunk.length);
    }
    expect(largest).toBeLessThanOrEqual(256 << 10);
    for (const name of ['tokenizer.model', 'added_tokens.json', 'config.json']) {
      expect(Buffer.concat(files.get(name)!).equals(readFileSync(join(TINY, name)))).toBe(true);
    }
  });

  it('count what was done', async () => {
    const response = await fetch(`http://${metricsAddress}/metrics`);
    const text = await response.text();
    for (const name of [
      'internvl_num_requests_waiting',
      'internvl_num_requests_running',
      'internvl_kv_cache_usage_ratio',
      'internvl_time_to_first_token_seconds_count',
      'internvl_inter_token_latency_seconds_count',
      'internvl_prompt_tokens_total',
      'internvl_generation_tokens_total',
      'internvl_requests_total{finish_reason="length"}',
      'internvl_step_seconds_count',
      'internvl_step_native_seconds_total',
      'internvl_step_prefill_tokens_count',
    ]) {
      expect(text).toContain(`\n${name}`);
    }
    expect((await fetch(`http://${metricsAddress}/healthz`)).status).toBe(200);
  });
});

describe('an engine that is lost', () => {
  it.each([
    ['fails', { failAfterSteps: 20 }, 1],
    ['stalls', { stallAfterSteps: 20 }, 3],
  ])('ends every session when it %s', async (_, fault, code) => {
    const lost = await startRank([
      '--model',
      TINY,
      '--simulate',
      JSON.stringify({ ...SIMULATION, ...fault }),
      '--hang-timeout-ms',
      '500',
    ]);
    await lost.log('serving');
    const own = connect(lost.address);
    try {
      const session = await RouterSession.open(own);
      const handles = Array.from({ length: 40 }, (_, index) => index + 1);
      session.submit(...handles.map((handle) => submit({ handle, tokenIds: [1], sampling: long })));
      const failure = await session.failure();
      expect(failure.code).toBe(status.UNAVAILABLE);
      for (const handle of handles) {
        expect(session.rejected.get(handle)).toMatchObject({
          code: status.UNAVAILABLE,
          reason: 'REPLICA_FAILED',
        });
      }
      expect(await lost.exitCode).toBe(code);
    } finally {
      own.close();
    }
  });
});
