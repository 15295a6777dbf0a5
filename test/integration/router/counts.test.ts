// What a token, a request and a picture cost the router, in things that can be counted: they are few whatever the machine.

import { randomBytes } from 'node:crypto';
import { Writable } from 'node:stream';
import { Counter, Histogram } from 'prom-client';
import { afterEach, expect, it, vi } from 'vitest';
import { PutImageRequest } from '../../../gen/proto/internvl/engine/v1/engine.ts';
import { GenerateEvent, GenerateRequest, ReplicaState } from '../../../gen/proto/internvl/v1/inference.ts';
import { ask, Harness, until } from './harness.ts';

const STREAMS = 40;
const TOKENS = 12;

let harness: Harness;
afterEach(async () => {
  vi.restoreAllMocks();
  await harness.close();
});

it('sends requests that wait for a replica to it in one message', async () => {
  harness = await Harness.start({ replicas: [{}] });
  const replica = harness.replicas[0]!;
  await replica.kill();
  replica.stalled = true;
  await replica.restart();
  await until(() => harness.router.replicas[0]!.state === ReplicaState.PROBING);
  replica.batches.length = 0;
  const streams = Array.from({ length: STREAMS }, () =>
    harness.generate(ask({ sampling: { maxTokens: 2 } })),
  );
  await until(() => harness.router.live === STREAMS);
  replica.resume();
  for (const stream of streams) await stream.end();
  expect(replica.batches.filter((count) => count > 1)).toEqual([STREAMS]);
});

it('writes one message a token past the stream of its call, and encodes only the first and the last by way of objects', async () => {
  harness = await Harness.start({ replicas: [{}] });
  const encode = vi.spyOn(GenerateEvent, 'encode');
  const write = vi.spyOn(Writable.prototype, 'write');
  const streams = Array.from({ length: STREAMS }, () =>
    harness.generate(ask({ sampling: { maxTokens: TOKENS, ignoreEos: true } })),
  );
  for (const stream of streams) await stream.end();
  for (const { events } of streams) {
    expect(events.map(({ $case }) => $case)).toEqual(['started', ...Array(TOKENS).fill('delta'), 'finished']);
  }
  expect(encode).toHaveBeenCalledTimes(2 * STREAMS);
  const streamsWrittenTo = write.mock.contexts.map((stream) => (stream as object).constructor.name);
  expect(streamsWrittenTo).not.toContain('ServerWritableStreamImpl');
});

it('asks the metrics library for nothing for a token', async () => {
  harness = await Harness.start({ replicas: [{}] });
  const { registry } = harness.router.metrics;
  const calls = registry.getMetricsAsArray().flatMap((metric) => {
    if (metric instanceof Counter) return [vi.spyOn(metric, 'inc')];
    return metric instanceof Histogram ? [vi.spyOn(metric, 'observe')] : [];
  });
  const streams = Array.from({ length: STREAMS }, () =>
    harness.generate(ask({ sampling: { maxTokens: TOKENS, ignoreEos: true } })),
  );
  for (const stream of streams) await stream.end();
  // Once for the wait in the queue, once for the end.
  expect(calls.reduce((sum, { mock }) => sum + mock.calls.length, 0)).toBe(2 * STREAMS);
  const text = await registry.metrics();
  expect(text).toMatch(new RegExp(`^internvl_router_completion_tokens_total ${STREAMS * TOKENS}$`, 'm'));
  expect(text).toMatch(
    new RegExp(`^internvl_router_inter_token_seconds_count ${STREAMS * (TOKENS - 1)}$`, 'm'),
  );
});

it('decodes a large picture, from a data: URL too, on another thread', async () => {
  harness = await Harness.start({ replicas: [{}] });
  const decode = vi.spyOn(GenerateRequest, 'decode');
  const file = randomBytes(1_000_000);
  const [data, url] = [file, `data:image/png;base64,${file.toString('base64')}`];
  for (const source of [
    { $case: 'data' as const, value: data },
    { $case: 'url' as const, value: url },
  ]) {
    const result = await harness.once(ask({ images: [source], sampling: { maxTokens: 2 } }));
    expect(result.usage!.imageTokens).toBe(256);
  }
  // The same picture: the replica, which compares hashes, got it once.
  expect(harness.replicas[0]!.puts).toHaveLength(1);
  expect(decode).not.toHaveBeenCalled();
  await harness.once(ask({ images: [{ $case: 'data', value: file.subarray(0, 1000) }] }));
  expect(decode).toHaveBeenCalledTimes(1);
});

it('sends a large picture in chunks that are encoded without it, unchanged, while streams go on', async () => {
  harness = await Harness.start({ replicas: [{}] });
  const encode = vi.spyOn(PutImageRequest, 'encode');
  const others = Array.from({ length: 4 }, () =>
    harness.generate(ask({ sampling: { maxTokens: 200, ignoreEos: true } })),
  );
  const data = randomBytes(3_000_001);
  const result = await harness.once(
    ask({ images: [{ $case: 'data', value: data }], sampling: { maxTokens: 2 } }),
  );
  // The replica compares the hash of what came.
  expect(result.usage!.imageTokens).toBe(256);
  expect(harness.replicas[0]!.puts).toHaveLength(1);
  expect(encode.mock.calls.map(([{ chunk }]) => chunk.length)).toEqual([0]);
  for (const stream of others) expect((await stream.end()).finished!.usage!.completionTokens).toBe(200);
});
