// Which of the running sequences goes first when not all can. Of those that wait, see waiting-line.ts.

import type { Sequence } from './sequence.ts';

/** Best first: those that waited too long, then by priority, then by arrival. The last running one is the one to preempt. */
export function byRank(a: Sequence, b: Sequence): number {
  if (a.promoted !== b.promoted) return a.promoted ? -1 : 1;
  if (!a.promoted && a.priority !== b.priority) return b.priority - a.priority;
  return a.arrival - b.arrival;
}
