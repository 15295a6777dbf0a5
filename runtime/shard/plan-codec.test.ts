import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { StepPlan as WirePlan } from '../../gen/proto/internvl/shard/v1/shard.ts';
import type { StepPlan } from '../engine/step-plan.ts';
import { fromWirePlan, toWirePlan } from './plan-codec.ts';

const uint = fc.nat(0xffffffff);
const plans: fc.Arbitrary<StepPlan> = fc.record({
  step: uint,
  sequences: fc.array(
    fc.record({
      handle: uint,
      numComputed: uint,
      numTokens: uint,
      newBlocks: fc.array(uint),
      wantsLogits: fc.boolean(),
    }),
  ),
  finished: fc.array(uint),
  preempted: fc.array(uint),
  freeImages: fc.array(uint),
  encodeImages: fc.array(uint),
  imageRows: fc.array(fc.record({ image: uint, sourceRow: uint, targetRow: uint, count: uint })),
});

describe('the wire form of a step plan', () => {
  it('comes back as it was, through the bytes', () => {
    fc.assert(
      fc.property(plans, (plan) => {
        expect(fromWirePlan(WirePlan.decode(WirePlan.encode(toWirePlan(plan)).finish()))).toEqual(plan);
      }),
      { seed: 7 },
    );
  });

  const plan = toWirePlan({
    step: 3,
    sequences: [{ handle: 1, numComputed: 0, numTokens: 4, newBlocks: [5, 6], wantsLogits: true }],
    finished: [],
    preempted: [],
    freeImages: [],
    encodeImages: [],
    imageRows: [],
  });

  it.each([
    [{ ...plan, numTokens: [] }, 'numTokens has 0 entries for 1 sequences'],
    [{ ...plan, wantsLogits: [1, 0] }, 'wantsLogits has 2 entries'],
    [{ ...plan, newBlocks: [5] }, 'newBlocks has 1 entries, newBlockCounts sum to 2'],
    [{ ...plan, newBlocks: [5, 6, 7] }, 'newBlocks has 3 entries'],
  ])('is refused when its arrays do not fit together (%#)', (wire, problem) => {
    expect(() => fromWirePlan(wire)).toThrow(problem);
  });
});
