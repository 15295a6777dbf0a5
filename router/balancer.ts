// Which replica a request goes to.

import { cost, type ReplicaLoad, type ReplicaRates } from './cost.ts';

/** A replica that may be chosen. */
export interface Candidate {
  readonly name: string;
  /** Submissions it still takes; chosen only while > 0. */
  readonly credits: number;
  /** Sequences it runs at once; one more has to wait until another ends. */
  readonly maxSequences: number;
  readonly load: ReplicaLoad;
  readonly rates: ReplicaRates;
}

/** What the choice depends on. */
export interface Placeable {
  /** Tokens of the prompt, pictures to encode counted as their image tokens once more. */
  readonly workTokens: number;
  /** Replicas that already failed it: elsewhere first. */
  readonly avoid: ReadonlySet<string>;
}

/** Costs closer than this share of each other are a tie: the figures are no better than that. */
const TIE = 0.01;

/**
 * The cheapest candidate with credit, those that can start at once before all others, ties broken by `random`; undefined when the request has to wait.
 * `hitTokens` says how many of the request's tokens a candidate is believed to hold; it only ever lowers the uncached work.
 */
export function pick<C extends Candidate>(
  candidates: readonly C[],
  request: Placeable,
  hitTokens: (candidate: C) => number,
  random: () => number,
): C | undefined {
  const elsewhere = candidates.filter((candidate) => !request.avoid.has(candidate.name));
  // A replica that failed it is better than none, but not better than waiting for another one's credit.
  const open = (elsewhere.length > 0 ? elsewhere : candidates).filter((candidate) => candidate.credits > 0);
  if (open.length === 0) return undefined;
  // How long another sequence will still run is unknown and may be minutes: who can start now goes before whoever is cheaper but full.
  const idle = open.filter(({ load, maxSequences }) => load.sequences < maxSequences);
  const pool = idle.length > 0 ? idle : open;
  const costs = pool.map((candidate) => {
    const hit = Math.min(request.workTokens, Math.max(0, hitTokens(candidate)));
    return cost(candidate.load, candidate.rates, request.workTokens - hit);
  });
  const least = Math.min(...costs);
  const ties = pool.filter((_, index) => costs[index]! <= least * (1 + TIE));
  return ties[Math.min(ties.length - 1, Math.floor(random() * ties.length))];
}
