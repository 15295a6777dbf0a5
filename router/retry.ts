// Whether a request that failed on one replica is tried on another.

import { status } from '@grpc/grpc-js';

/** How an attempt ended. */
export interface Failure {
  readonly code: status;
  /** The replica went away with the request on it, so the request may be what killed it. */
  readonly replicaLost: boolean;
}

/** What has happened to the request so far, this failure included. */
export interface History {
  /** Attempts that failed. */
  readonly failures: number;
  /** Attempts during which the replica was lost. */
  readonly replicasLost: number;
  /** The client has seen part of the answer. */
  readonly tokensDelivered: boolean;
}

export type RetryDecision =
  | { readonly retry: true }
  | {
      readonly retry: false;
      readonly because: 'not retriable' | 'tokens delivered' | 'attempts' | 'suspect' | 'budget';
    };

export const MOST_RETRIES = 2;
const MOST_INTERNAL_RETRIES = 1;
/** A request on which this many replicas were lost is not given the next one. */
const MOST_REPLICAS_LOST = 2;

/** Takes from the budget when it says yes. */
export function decideRetry(failure: Failure, history: History, budget: RetryBudget): RetryDecision {
  const most = mostRetries(failure);
  if (most === 0) return { retry: false, because: 'not retriable' };
  if (history.tokensDelivered) return { retry: false, because: 'tokens delivered' };
  if (history.replicasLost >= MOST_REPLICAS_LOST) return { retry: false, because: 'suspect' };
  if (history.failures > most) return { retry: false, because: 'attempts' };
  if (!budget.take()) return { retry: false, because: 'budget' };
  return { retry: true };
}

function mostRetries(failure: Failure): number {
  if (failure.replicaLost || failure.code === status.UNAVAILABLE) return MOST_RETRIES;
  if (failure.code === status.INTERNAL) return MOST_INTERNAL_RETRIES;
  return 0;
}

export interface RetryBudgetOptions {
  /** Retries allowed at once: what one large replica may have in flight when it dies. */
  readonly capacity: number;
  /** Retries that each fresh request adds. */
  readonly perRequest: number;
}

export const DEFAULT_RETRY_BUDGET: RetryBudgetOptions = { capacity: 256, perRequest: 0.1 };

/** Keeps retries to a share of the traffic, so that a failing pool is not also flooded. */
export class RetryBudget {
  readonly #options: RetryBudgetOptions;
  #tokens: number;

  constructor(options: RetryBudgetOptions = DEFAULT_RETRY_BUDGET) {
    this.#options = options;
    this.#tokens = options.capacity;
  }

  /** A fresh request came in. */
  earn(): void {
    this.#tokens = Math.min(this.#options.capacity, this.#tokens + this.#options.perRequest);
  }

  take(): boolean {
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
