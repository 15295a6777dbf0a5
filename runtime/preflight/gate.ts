// What a gate is: one thing that must hold for the devices of a group to reach each other's memory directly. docs/interconnect.md tells of each.

import type { RankFacts } from './rank-facts.ts';

export type Outcome = 'pass' | 'fail' | 'notApplicable';

export interface Finding {
  readonly outcome: Outcome;
  /** What there is, and on which rank. */
  readonly found: string;
  /** What to change, as an imperative; empty unless it failed. */
  readonly change: string;
}

export interface Gate {
  /** Becomes the reason of a condition. */
  readonly name: string;
  /** `group`: by rank; at least two, and at least one sees a GPU. */
  readonly check: (group: readonly RankFacts[]) => Finding;
}

export interface GateResult extends Finding {
  readonly gate: string;
}

export function pass(found: string): Finding {
  return { outcome: 'pass', found, change: '' };
}

export function fail(found: string, change: string): Finding {
  return { outcome: 'fail', found, change };
}

export function notApplicable(found: string): Finding {
  return { outcome: 'notApplicable', found, change: '' };
}

/** Values that are named in a message; a group may be large. */
const MOST_NAMED = 4;

/** The ranks by what they have: one entry when all have the same. */
export function ranksBy<T>(
  group: readonly T[],
  valueOf: (member: T, rank: number) => string,
): ReadonlyMap<string, readonly number[]> {
  const ranks = new Map<string, number[]>();
  for (const [rank, member] of group.entries()) {
    const value = valueOf(member, rank);
    const same = ranks.get(value);
    if (same === undefined) ranks.set(value, [rank]);
    else same.push(rank);
  }
  return ranks;
}

/** "rank 0: a; ranks 1, 2: b" */
export function listed(byValue: ReadonlyMap<string, readonly number[]>): string {
  const parts = [...byValue].map(([value, ranks]) => `${rankNames(ranks)}: ${value === '' ? 'none' : value}`);
  const more = parts.length > MOST_NAMED ? `; and ${parts.length - MOST_NAMED} more` : '';
  return `${parts.slice(0, MOST_NAMED).join('; ')}${more}`;
}

export function rankNames(ranks: readonly number[]): string {
  return `${ranks.length === 1 ? 'rank' : 'ranks'} ${ranks.join(', ')}`;
}
