// Runs one step's plan: the engine core decides, an executor computes.

import type { Logits, Model } from './batch.ts';
import { RankState } from './rank-state.ts';
import type { RankStateOptions } from './rank-state.ts';
import type { StepInputs } from './step-inputs.ts';
import type { StepPlan } from './step-plan.ts';

/** What a step computed for the L sequences that want logits, in the plan's order. */
export type StepResult =
  /** Valid until the next execute. */
  | { readonly logits: Logits }
  /** [L] tokens already chosen (the simulated engine). */
  | { readonly tokenIds: readonly number[] };

/** Waits for what a step computed; called once, before the results of any later step. */
export type AwaitResult = () => Promise<StepResult> | StepResult;

export interface Executor {
  /** A step can be launched before the result of the one before it is in: see placeholderOf. */
  readonly runsAhead?: boolean;
  /**
   * Begins a step. inputs: of the plan's tokens and of those that want logits, valid during the call; pixels: of plan.encodeImages, uint8 RGB. Plans come in
   * order, one at a time, or two where the executor runs ahead. Whatever it or its result throws is fatal to the engine.
   */
  launch(plan: StepPlan, inputs: StepInputs, pixels: ReadonlyMap<number, Uint8Array>): AwaitResult;
}

/** Stands among the ids for a token that is not known yet: the one that the step before chooses from row `row` of its logits. */
export function placeholderOf(row: number): number {
  return -1 - row;
}

/** What only rank 0 has of a step. */
export interface RootInputs {
  readonly inputs: StepInputs;
  readonly pixels: ReadonlyMap<number, Uint8Array>;
}

/**
 * One step on one rank: applies the plan, drops and encodes images, runs the forward pass. Collective: every rank calls it with the same plans in the
 * same order, rank 0 with `root`, the others without. Returns what waits for the logits on rank 0, undefined elsewhere; throws PlanMismatch.
 */
export function runStep(
  state: RankState,
  model: Model,
  plan: StepPlan,
  root: RootInputs | undefined,
): (() => Logits) | undefined {
  const batch = state.apply(plan);
  if (root !== undefined) batch.inputs.words.set(root.inputs.words);
  for (const image of plan.freeImages) model.freeImage(image);
  for (const image of plan.encodeImages) model.encodeImage(image, root?.pixels.get(image));
  return model.forward(batch);
}

export interface ModelExecutorOptions extends RankStateOptions {
  readonly model: Model;
  /** Called with each plan before its forward pass: rank 0 sends it to the other ranks here. */
  readonly publish?: (plan: StepPlan) => void;
  /** Called after the forward pass with rank 0's plan hash: compare it with the other ranks' and throw (or reject) when one differs. */
  readonly verify?: (step: number, planHash: number) => Promise<void> | void;
}

/** Rank 0's executor: the model of this process, the other ranks kept in step through `publish` and `verify`. */
export class ModelExecutor implements Executor {
  readonly #options: ModelExecutorOptions;
  readonly #state: RankState;

  constructor(options: ModelExecutorOptions) {
    this.#options = options;
    this.#state = new RankState(options);
  }

  get runsAhead(): boolean {
    return this.#options.model.runsAhead;
  }

  launch(plan: StepPlan, inputs: StepInputs, pixels: ReadonlyMap<number, Uint8Array>): AwaitResult {
    this.#options.publish?.(plan);
    const logits = runStep(this.#state, this.#options.model, plan, { inputs, pixels });
    const { planHash } = this.#state;
    return async () => {
      const result = logits?.();
      await this.#options.verify?.(plan.step, planHash);
      if (result === undefined)
        throw new Error(`step ${String(plan.step)}: the model gave no logits on rank 0`);
      return { logits: result };
    };
  }
}
