// What it would cost, in seconds of waiting, to run a request on a replica. Affinity is a term of it, never a switch: a warm cache lowers
// the work, and a long queue in front of a warm cache still loses.

/** A replica's work as the router knows it now. */
export interface ReplicaLoad {
  /** Prompt tokens that the replica has accepted and not yet computed. */
  readonly waitingUncachedTokens: number;
  /** Prompt tokens on their way to it that its last report does not include. */
  readonly unackedTokens: number;
  /** Sequences it runs, holds waiting, or is about to receive. */
  readonly sequences: number;
  /** Share of its KV blocks in use, 0..1. */
  readonly kvUsage: number;
}

export interface ReplicaRates {
  /** Prompt tokens a second. */
  readonly prefillTokensPerSecond: number;
  /** Seconds that one more running sequence adds to a step. */
  readonly stepSecondsPerSequence: number;
}

/** Used until a replica, or one of its siblings, has been measured. */
export const DEFAULT_RATES: ReplicaRates = { prefillTokensPerSecond: 2000, stepSecondsPerSequence: 0.0005 };

/** Seconds that a half-full KV cache counts for; k/(1-k) makes a nearly full one count for very much. */
const KV_BARRIER_SECONDS = 0.15;
/** A full cache must compare as worse, not as infinite. */
const MOST_KV_USAGE = 0.99;

/** Seconds, never negative; `uncachedTokens` are the request's own tokens that the replica is not believed to hold. */
export function cost(load: ReplicaLoad, rates: ReplicaRates, uncachedTokens: number): number {
  const ahead = load.waitingUncachedTokens + load.unackedTokens + Math.max(0, uncachedTokens);
  const k = Math.min(MOST_KV_USAGE, Math.max(0, load.kvUsage));
  return (
    ahead / rates.prefillTokensPerSecond +
    rates.stepSecondsPerSequence * load.sequences +
    (KV_BARRIER_SECONDS * k) / (1 - k)
  );
}
