// All gates, in the order in which NCCL comes to them: the first that is shut is what to change first.

import { DEVICE_GATES, SETTING_GATES } from './device-gates.ts';
import { notApplicable } from './gate.ts';
import type { Gate, GateResult } from './gate.ts';
import { HANDLE_GATES, HOST_GATES } from './host-gates.ts';
import type { RankFacts } from './rank-facts.ts';

export const GATES: readonly Gate[] = [...HOST_GATES, ...DEVICE_GATES, ...HANDLE_GATES, ...SETTING_GATES];

/** Each gate by itself. `group`: the facts of all ranks, by rank. */
export function checkGates(group: readonly RankFacts[]): GateResult[] {
  const why = whyNone(group);
  return GATES.map(({ name, check }) => ({
    gate: name,
    ...(why === undefined ? check(group) : notApplicable(why)),
  }));
}

function whyNone(group: readonly RankFacts[]): string | undefined {
  if (group.length < 2) return 'one rank has nobody to reach';
  return group.every(({ gpus }) => gpus.length === 0) ? 'no rank sees a GPU' : undefined;
}
