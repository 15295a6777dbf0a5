// Many clients at once on two replicas: all get right answers, those that leave free what they held, and there is an end to waiting.

import { status } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { FinishReason } from '../../../gen/proto/internvl/v1/generation.ts';
import { parseDetails } from '../../../rpc/status.ts';
import { Served, request, type Call } from '../../support/served.ts';
import { goldenAnswers, requestOf, type GoldenAnswer } from '../../support/served-golden.ts';

const QUEUE = 220;
const golden = goldenAnswers('tiny').filter(({ comparable, tokenIds }) => comparable === tokenIds.length);
const texts = golden.filter(({ prompt }) => prompt.imageTokens === 0);
const pick = (answers: readonly GoldenAnswer[], index: number) => answers[index % answers.length]!;

let served: Served;

beforeAll(async () => {
  served = await Served.start({
    checkpoint: 'tiny',
    replicas: 2,
    engine: { maxSequences: 16 },
    router: { queue: { maxRequests: QUEUE } },
  });
});

afterEach(async () => {
  await served.idle();
});

afterAll(async () => {
  expect(await served?.stop()).toEqual({ code: 0, left: [] });
});

/** Runs until it is stopped: more tokens than anything else here takes. */
const endless = (count: number): Call[] =>
  Array.from({ length: count }, () =>
    served.generate(request({ text: 'Hi', sampling: { ignoreEos: true, maxTokens: 4000 } })),
  );

function expectAnswered(call: Call, answer: GoldenAnswer): void {
  expect(call.error?.message).toBeUndefined();
  expect({ name: answer.name, ids: call.tokenIds }).toEqual({ name: answer.name, ids: answer.tokenIds });
}

describe('200 requests at once', () => {
  it('are all answered right, by both replicas', async () => {
    // Three in four are text: pictures cost this model a hundred times as much.
    const asked = Array.from({ length: 200 }, (_, index) => pick(index % 4 === 0 ? golden : texts, index));
    const calls = await Promise.all(asked.map((answer) => served.generate(requestOf(answer)).ended));
    for (const [index, answer] of asked.entries()) expectAnswered(calls[index]!, answer);
    expect(new Set(calls.map(({ replica }) => replica)).size).toBe(2);
  });

  it('half of which are cancelled in mid-stream leave nothing behind and disturb nobody', async () => {
    const leaving = endless(100);
    const staying = Array.from({ length: 100 }, (_, index) => pick(texts, index)).map((answer) => ({
      answer,
      call: served.generate(requestOf(answer)),
    }));
    // Each is cancelled once it streams; those behind it then get its place.
    await Promise.all(
      leaving.map(async (call) => {
        await call.tokens(3);
        call.cancel();
        await call.ended;
        expect(call.error?.code).toBe(status.CANCELLED);
      }),
    );
    for (const { answer, call } of staying) expectAnswered(await call.ended, answer);
    await served.idle();
    const free = await served.generate(requestOf(texts[0]!)).ended;
    expectAnswered(free, texts[0]!);
  });
});

describe('a deadline', () => {
  it('in mid-stream ends the call and frees its sequence', async () => {
    const call = served.generate(request({ text: 'Hi', sampling: { ignoreEos: true, maxTokens: 4000 } }), {
      deadlineMs: 500,
    });
    expect((await call.ended).error?.code).toBe(status.DEADLINE_EXCEEDED);
    expect(call.tokenIds.length).toBeGreaterThan(0);
    expect(call.tokenIds.length).toBeLessThan(4000);
    await served.idle();
  });

  it('that passes in the queue ends the call there', async () => {
    const blocking = endless(80);
    await Promise.all(blocking.slice(0, 20).map((call) => call.tokens(1)));
    const call = served.generate(requestOf(texts[0]!), { deadlineMs: 200 });
    expect((await call.ended).error?.code).toBe(status.DEADLINE_EXCEEDED);
    for (const blocked of blocking) blocked.cancel();
    await Promise.all(blocking.map(({ ended }) => ended));
  });
});

describe('a full queue', () => {
  it('refuses further requests, says when to come back, and works on', async () => {
    const calls = endless(QUEUE + 120);
    const late = served.generate(requestOf(texts[0]!));
    await late.ended;
    expect(late.error?.code).toBe(status.RESOURCE_EXHAUSTED);
    expect(late.reason).toBe('QUEUE_FULL');
    expect(parseDetails(late.error).retryAfterMs).toBeGreaterThan(0);
    expect(late.error?.details).toContain(String(QUEUE));
    expect(calls.some(({ error }) => error?.code === status.RESOURCE_EXHAUSTED)).toBe(true);
    for (const call of calls) call.cancel();
    await served.idle();
    expectAnswered(await served.generate(requestOf(texts[0]!)).ended, texts[0]!);
  });
});

describe('a slow reader', () => {
  it('gets the whole answer when it reads again in time, and holds up nobody', async () => {
    const slow = served.generate(
      request({ text: 'Hi', logprobs: 5, sampling: { ignoreEos: true, maxTokens: 600 } }),
      { client: served.connect() },
    );
    slow.pause();
    const others = await Promise.all(texts.map((answer) => served.generate(requestOf(answer)).ended));
    for (const [index, answer] of texts.entries()) expectAnswered(others[index]!, answer);
    await served.idle(); // the replica has long finished
    expect(slow.tokenIds).toEqual([]);
    slow.resume();
    await slow.ended;
    expect(slow.error).toBeUndefined();
    expect(slow.tokenIds).toHaveLength(600);
    expect(slow.logprobs).toHaveLength(600);
    expect(slow.finished?.finishReason).toBe(FinishReason.LENGTH);
  });
});

describe('a replica of one rank that stops', () => {
  it('is given up, what it had not begun is answered by the other, and it is taken back when it goes on', async () => {
    const streaming = endless(8);
    await Promise.all(streaming.map((call) => call.tokens(1)));
    const replica = streaming[0]!.replica!;
    served.kill(`${replica}-0`, 'SIGSTOP');
    try {
      const asked = [...texts, ...texts];
      const calls = asked.map((answer) => served.generate(requestOf(answer)));
      for (const call of streaming.filter((candidate) => candidate.replica === replica)) {
        expect((await call.ended).error?.code).toBe(status.UNAVAILABLE);
        expect(call.reason).toBe('REPLICA_FAILED');
      }
      for (const call of streaming) call.cancel();
      for (const [index, answer] of asked.entries()) expectAnswered(await calls[index]!.ended, answer);
    } finally {
      served.kill(`${replica}-0`, 'SIGCONT');
    }
    await served.idle();
  });
});
