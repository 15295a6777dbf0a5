import { status } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { decideRetry, RetryBudget, type Failure, type History } from './retry.ts';

const LOST: Failure = { code: status.UNAVAILABLE, replicaLost: true };
const UNAVAILABLE: Failure = { code: status.UNAVAILABLE, replicaLost: false };
const INTERNAL: Failure = { code: status.INTERNAL, replicaLost: false };
const history = (failures: number, replicasLost = 0, tokensDelivered = false): History => ({
  failures,
  replicasLost,
  tokensDelivered,
});

describe('decideRetry', () => {
  it.each<[string, Failure, History, string]>([
    ['unavailable once', UNAVAILABLE, history(1), 'retry'],
    ['unavailable twice', UNAVAILABLE, history(2), 'retry'],
    ['unavailable three times', UNAVAILABLE, history(3), 'attempts'],
    ['a lost replica', LOST, history(1, 1), 'retry'],
    ['a second lost replica: it may be the request', LOST, history(2, 2), 'suspect'],
    ['unavailable after two lost replicas', UNAVAILABLE, history(3, 2), 'suspect'],
    ['internal once', INTERNAL, history(1), 'retry'],
    ['internal twice', INTERNAL, history(2), 'attempts'],
    ['after tokens were delivered', LOST, history(1, 1, true), 'tokens delivered'],
    ...[
      status.INVALID_ARGUMENT,
      status.NOT_FOUND,
      status.RESOURCE_EXHAUSTED,
      status.CANCELLED,
      status.DEADLINE_EXCEEDED,
      status.UNIMPLEMENTED,
    ].map((code): [string, Failure, History, string] => [
      status[code],
      { code, replicaLost: false },
      history(1),
      'not retriable',
    ]),
  ])('%s', (_, failure, past, expected) => {
    const decision = decideRetry(failure, past, new RetryBudget());
    expect(decision.retry ? 'retry' : decision.because).toBe(expected);
  });

  it('stops when the budget is spent, and takes from it only what is retried', () => {
    const budget = new RetryBudget({ capacity: 2, perRequest: 0.5 });
    expect(decideRetry(UNAVAILABLE, history(3), budget).retry).toBe(false);
    expect(decideRetry(UNAVAILABLE, history(1), budget).retry).toBe(true);
    expect(decideRetry(UNAVAILABLE, history(1), budget).retry).toBe(true);
    expect(decideRetry(UNAVAILABLE, history(1), budget)).toEqual({ retry: false, because: 'budget' });
    budget.earn();
    expect(budget.take()).toBe(false);
    budget.earn();
    expect(budget.take()).toBe(true);
  });

  it('saves no more than its capacity', () => {
    const budget = new RetryBudget({ capacity: 1, perRequest: 1 });
    for (let index = 0; index < 10; index++) budget.earn();
    expect([budget.take(), budget.take()]).toEqual([true, false]);
  });
});
