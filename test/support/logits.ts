// Rows of logits that are unlike each other in what matters to a selection, how tokens are chosen from them, and what may be chosen where weights are rounded.

import { PLAIN_OPERATIONS, keepTopK, keepTopP } from '../../runtime/engine/draw.ts';
import { StepInputs, DRAW_VALUES } from '../../runtime/engine/step-inputs.ts';
import { native } from '../../runtime/native/index.ts';
import type { Tensor } from '../../runtime/native/index.ts';
import { seeded } from './seeded-values.ts';

export interface Draw {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly share: number;
}

export const GREEDY_DRAW: Draw = { temperature: 0, topK: 0, topP: 0, share: 0 };

/** What chooseTokens takes. */
export function drawsTensor(draws: readonly Draw[]): Tensor {
  const inputs = new StepInputs(0, draws.length);
  for (const [row, { temperature, topK, topP, share }] of draws.entries())
    inputs.draws.set([temperature, topK, topP, share], row * DRAW_VALUES);
  return native().indices(inputs.drawWords);
}

export class LogitRows {
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = seeded(seed);
  }

  /** One of the values, at random. */
  pick<T>(values: readonly T[]): T {
    return values[Math.floor(this.uniform() * values.length)] as T;
  }

  /** In [0, 1). */
  uniform(): number {
    return (this.#random() + 1) / 2;
  }

  /** At least one is finite. */
  row(kind: string, length: number): Float32Array<ArrayBuffer> {
    const logit = this.#kinds[kind]?.();
    const values = Float32Array.from({ length }, (_, index) => logit?.(index) ?? NaN);
    if (values.every((value) => value === -Infinity)) values[0] = 1;
    return values;
  }

  get kinds(): readonly string[] {
    return Object.keys(this.#kinds);
  }

  /** A logit by index. */
  readonly #kinds: Readonly<Record<string, () => (index: number) => number>> = {
    random: () => () => 6 * this.#random(),
    peaked: () => (index) => (index % 97 === 3 ? 20 + this.#random() : 5 * this.#random()),
    narrow: () => () => 11 + this.#random() / 1000,
    flat: () => () => -3.5,
    'few values': () => () => this.pick([-2, -0.5, 0, -0, 0.5]),
    'mostly one value': () => (index) => (index % 50 === 7 ? this.#random() : 0.25),
    'with -Infinity': () => () => (this.#random() < 0.6 ? -Infinity : 3 * this.#random()),
    denormal: () => () => this.#random() * 1e-40,
    'of every magnitude': () => () => this.#random() * 10 ** this.pick([-44, -30, -8, -1, 1, 8, 38]),
    descending: () => (index) => -index / 8,
    'one finite': () => {
      const at = this.pick([0, 1, 5, 24]);
      return (index) => (index === at ? -7 : -Infinity);
    },
  };
}

export function largest(logits: Float32Array): number {
  return logits.reduce((most, logit) => Math.max(most, logit));
}

export function plainToken(logits: Float32Array, draw: Draw): number {
  const { temperature, topK, topP, share } = draw;
  const most = largest(logits);
  return temperature === 0
    ? logits.indexOf(most)
    : PLAIN_OPERATIONS.drawToken(logits, most, temperature, topK, topP, share);
}

/** How far the sums of a device's weights may be from what they should be, as a part of all. */
const ROUNDING = 2 ** -21;

/** Whether `token` is what the plain draw gives with a share and a topP that differ from the draw's by no more than rounding. */
export function isWithinRounding(token: number, logits: Float32Array, draw: Draw): boolean {
  const { temperature, topK, topP, share } = draw;
  const most = largest(logits);
  const weigh = (id: number): number => Math.exp(((logits[id] ?? -Infinity) - most) / temperature);
  const sum = (ids: readonly number[]): number => ids.reduce((total, id) => total + weigh(id), 0);
  const isCut = topK > 0 && topK < logits.length;
  const ids = isCut ? keepTopK(logits, topK) : Array.from(logits.keys());
  const cuts =
    topP < 1 ? [1 - ROUNDING, 1, 1 + ROUNDING].map((factor) => factor * topP * sum(ids)) : [Infinity];
  return cuts.some((mass) => {
    const kept = mass === Infinity ? ids : keepTopP(logits, weigh, ids, mass);
    const place = kept.indexOf(token);
    if (place === -1) return false;
    const total = sum(kept);
    const before = sum(kept.slice(0, place)) / total;
    const through = before + weigh(token) / total;
    return share >= before - ROUNDING && share < through + ROUNDING;
  });
}
