// The step plan's two forms: the engine's (one object a sequence) and the wire's (parallel arrays).

import type { StepPlan as WirePlan } from '../../gen/proto/internvl/shard/v1/shard.ts';
import type { ScheduledSequence, StepPlan } from '../engine/step-plan.ts';

/** The plan as the wire carries it. */
export function toWirePlan(plan: StepPlan): WirePlan {
  const { sequences } = plan;
  return {
    step: plan.step,
    handles: sequences.map((sequence) => sequence.handle),
    numComputed: sequences.map((sequence) => sequence.numComputed),
    numTokens: sequences.map((sequence) => sequence.numTokens),
    newBlockCounts: sequences.map((sequence) => sequence.newBlocks.length),
    newBlocks: sequences.flatMap((sequence) => sequence.newBlocks),
    wantsLogits: sequences.map((sequence) => (sequence.wantsLogits ? 1 : 0)),
    finished: [...plan.finished],
    preempted: [...plan.preempted],
    encodeImages: [...plan.encodeImages],
    freeImages: [...plan.freeImages],
    imageRows: plan.imageRows.map((rows) => ({ ...rows })),
  };
}

/** The plan as the engine applies it; throws RangeError when its parallel arrays do not fit together. */
export function fromWirePlan(wire: WirePlan): StepPlan {
  const count = wire.handles.length;
  for (const [name, values] of Object.entries({
    numComputed: wire.numComputed,
    numTokens: wire.numTokens,
    newBlockCounts: wire.newBlockCounts,
    wantsLogits: wire.wantsLogits,
  })) {
    if (values.length !== count) {
      throw new RangeError(
        `step plan ${wire.step}: ${name} has ${values.length} entries for ${count} sequences`,
      );
    }
  }
  const sequences: ScheduledSequence[] = [];
  let block = 0;
  for (const [index, handle] of wire.handles.entries()) {
    const end = block + wire.newBlockCounts[index]!;
    sequences.push({
      handle,
      numComputed: wire.numComputed[index]!,
      numTokens: wire.numTokens[index]!,
      newBlocks: wire.newBlocks.slice(block, end),
      wantsLogits: wire.wantsLogits[index] === 1,
    });
    block = end;
  }
  if (block !== wire.newBlocks.length) {
    throw new RangeError(
      `step plan ${wire.step}: newBlocks has ${wire.newBlocks.length} entries, newBlockCounts sum to ${block}`,
    );
  }
  return {
    step: wire.step,
    sequences,
    finished: wire.finished,
    preempted: wire.preempted,
    freeImages: wire.freeImages,
    encodeImages: wire.encodeImages,
    imageRows: wire.imageRows,
  };
}
