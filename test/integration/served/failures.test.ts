// Replicas that die or hang under load: what has no token yet moves to the other, what streams ends, and the group comes back.

import { status } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Served, eventually, request, type Call } from '../../support/served.ts';
import { goldenAnswers, requestOf } from '../../support/served-golden.ts';

const SLOTS = 4;
const golden = goldenAnswers('tiny').filter(
  ({ prompt, comparable, tokenIds }) => prompt.imageTokens === 0 && comparable === tokenIds.length,
);

let served: Served;

beforeAll(async () => {
  served = await Served.start({
    checkpoint: 'tiny',
    replicas: 2,
    tensorParallelSize: 2,
    engine: { maxSequences: SLOTS },
  });
});

afterAll(async () => {
  expect(await served?.stop()).toEqual({ code: 0, left: [] });
});

const calls = new Set<Call>();

afterEach(() => {
  for (const call of calls) call.cancel();
  calls.clear();
});

function ask(question: Parameters<Served['generate']>[0]): Call {
  const call = served.generate(question);
  calls.add(call);
  return call;
}

const answerAll = async (): Promise<Call[]> =>
  await Promise.all(golden.map((answer) => ask(requestOf(answer)).ended));

function expectGolden(calls: readonly Call[]): void {
  for (const [index, answer] of golden.entries()) {
    const call = calls[index]!;
    expect({ name: answer.name, error: call.error?.message, ids: call.tokenIds }).toEqual({
      name: answer.name,
      error: undefined,
      ids: answer.tokenIds,
    });
  }
}

describe.each([
  ['rank 1 is killed', 1, 'SIGKILL'],
  ['rank 1 hangs', 1, 'SIGSTOP'],
  ['rank 0 is killed', 0, 'SIGKILL'],
] as const)('when %s under load', (_, rank, signal) => {
  it('only streaming answers of its replica are lost, and the replica comes back', async () => {
    // Fill every slot of both replicas, then queue more on them than they can run.
    const streaming = Array.from({ length: 2 * SLOTS }, () =>
      ask(request({ text: 'Hi', sampling: { ignoreEos: true, maxTokens: 4000 } })),
    );
    await Promise.all(streaming.map((call) => call.tokens(2)));
    const waiting = golden.map((answer) => ask(requestOf(answer)));
    const replica = streaming[0]!.replica!;
    await eventually('requests to wait on the replica', async () => {
      const state = (await served.model()).replicas.find(({ name }) => name === replica);
      return state !== undefined && state.waiting > 0 ? true : undefined;
    });
    expect(waiting.flatMap(({ tokenIds }) => tokenIds)).toEqual([]);
    const retried = await served.metric('router', 'internvl_router_retries_total');

    const victim = `${replica}-${rank}`;
    served.kill(victim, signal);
    const lost = streaming.filter((call) => call.replica === replica);
    expect(lost).toHaveLength(SLOTS);
    for (const call of lost) {
      await call.ended;
      expect(call.error?.code).toBe(status.UNAVAILABLE);
      expect(call.reason).toBe('REPLICA_FAILED');
      expect(call.error?.details).toMatch(/not tried again: \d+ tokens of the answer had been sent/);
    }
    const others = streaming.filter((call) => call.replica !== replica);
    for (const call of others) {
      expect(call.error).toBeUndefined();
      call.cancel();
    }
    await Promise.all(others.map(({ ended }) => ended));
    expectGolden(await Promise.all(waiting.map(({ ended }) => ended)));
    expect(await served.metric('router', 'internvl_router_retries_total')).toBeGreaterThan(retried);

    await served.restarted(victim);
    await served.idle();
    const again = await answerAll();
    expectGolden(again);
    expect(new Set(again.map((call) => call.replica)).size).toBe(2);
  });
});
