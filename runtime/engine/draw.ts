// One seeded draw from a row of logits, said plainly: the native operations do the same faster, and are compared with this.

import { inRankOrder, topIndices } from './top-k.ts';

/** What choosing a token asks of a row of logits; `native/index.ts` says what each does. */
export interface SamplingOperations {
  drawToken(
    logits: Float32Array,
    most: number,
    temperature: number,
    topK: number,
    topP: number,
    share: number,
  ): number;
  logSumExp(logits: Float32Array, shift: number): number;
  topTokens(logits: Float32Array, ids: Int32Array): void;
}

/** The plain loops: for an engine without native operations, and for tests of those. */
export const PLAIN_OPERATIONS: SamplingOperations = {
  drawToken(logits, most, temperature, topK, topP, share) {
    const weigh = (id: number): number => Math.exp(((logits[id] ?? -Infinity) - most) / temperature);
    let ids: readonly number[] = Array.from(logits.keys());
    if (topK > 0 && topK < logits.length) ids = keepTopK(logits, topK);
    if (topP < 1) ids = keepTopP(logits, weigh, ids, topP * sum(ids, weigh));
    return drawFrom(ids, weigh, share);
  },

  logSumExp: (logits, shift) => Math.log(logits.reduce((total, logit) => total + Math.exp(logit - shift), 0)),

  topTokens: (logits, ids) => ids.set(topIndices(logits, ids.length)),
};

/** The first of the ids at which the sum of weights exceeds `share` of all of them; the last that weighs anything when rounding leaves a rest. */
function drawFrom(ids: readonly number[], weigh: (id: number) => number, share: number): number {
  let left = share * sum(ids, weigh);
  let last = 0;
  for (const id of ids) {
    const weight = weigh(id);
    if (weight === 0) continue;
    last = id;
    left -= weight;
    if (left < 0) break;
  }
  return last;
}

function sum(ids: readonly number[], weigh: (id: number) => number): number {
  return ids.reduce((total, id) => total + weigh(id), 0);
}

/** The ids whose logit is at least the topK-th largest, best first: equals of the last one stay. */
export function keepTopK(logits: Float32Array, topK: number): readonly number[] {
  const top = topIndices(logits, topK);
  const last = top.at(-1) ?? 0;
  const lowest = logits[last];
  for (let id = last + 1; id < logits.length; id += 1) {
    if (logits[id] === lowest) top.push(id);
  }
  return top;
}

/** The fewest most likely of the ids whose weights sum to at least `mass`, best first. */
export function keepTopP(
  logits: Float32Array,
  weigh: (id: number) => number,
  ids: readonly number[],
  mass: number,
): readonly number[] {
  const kept: number[] = [];
  let total = 0;
  for (const id of inRankOrder(logits, ids)) {
    kept.push(id);
    total += weigh(id);
    if (total >= mass) break;
  }
  return kept;
}
