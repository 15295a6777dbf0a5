// Which waiting requests can go now, and where to. One pass gives one batch of submissions for each replica.

import { pick, type Candidate, type Placeable } from './balancer.ts';
import type { Queueable, RequestQueue } from './queue.ts';

export interface Assignment<T> {
  readonly request: T;
  readonly replica: string;
}

/**
 * Takes from the queue what can be submitted against credits, in the queue's order, and says where each goes. A request that has to wait
 * for a particular replica lets those behind it pass; a replica that is not eligible for a request is as if it were not there. Never assigns a replica more requests than it has credits.
 */
export function takeBatch<T extends Queueable & Placeable>(
  queue: RequestQueue<T>,
  candidates: readonly Candidate[],
  hitTokens: (request: T, replica: string) => number,
  now: number,
  random: () => number,
  eligible: (request: T, replica: string) => boolean = () => true,
): Assignment<T>[] {
  // Working copies: each assignment costs a credit and adds load, or one batch would all go to the same replica.
  const pool = candidates.map((candidate) => ({ ...candidate }));
  let credits = pool.reduce((sum, candidate) => sum + Math.max(0, candidate.credits), 0);
  const assignments: Assignment<T>[] = [];
  if (credits === 0) return assignments;
  for (const request of queue.inOrder(now)) {
    const open = pool.filter(({ name }) => eligible(request, name));
    const chosen = pick(open, request, (candidate) => hitTokens(request, candidate.name), random);
    if (chosen === undefined) continue;
    assignments.push({ request, replica: chosen.name });
    const hit = Math.min(request.workTokens, hitTokens(request, chosen.name));
    chosen.credits--;
    chosen.load = {
      ...chosen.load,
      unackedTokens: chosen.load.unackedTokens + request.workTokens - hit,
      sequences: chosen.load.sequences + 1,
    };
    if (--credits === 0) break;
  }
  for (const { request } of assignments) queue.remove(request);
  return assignments;
}
