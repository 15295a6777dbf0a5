// A simulated engine under submissions that come at given times, on a clock that moves only when the engine works or nobody is there.

import type { FinishedSequence, Submission } from '../../runtime/engine/engine.ts';
import { SimulatedEngine } from '../../runtime/engine/simulated-engine.ts';
import { parseSimulation } from '../../runtime/engine/simulation.ts';

/** Times are milliseconds since the start of the run. */
export interface Arrival {
  readonly atMs: number;
  readonly submission: Submission;
}

export interface SimulatedAnswer {
  readonly arrivedMs: number;
  readonly tokenIds: number[];
  /** When each token came. */
  readonly tokensMs: number[];
  end: FinishedSequence | undefined;
}

/** Runs until everything has ended; the answers by handle. Rejects with what the engine was lost to. */
export async function simulatedRun(
  options: Record<string, unknown>,
  arrivals: readonly Arrival[],
): Promise<ReadonlyMap<number, SimulatedAnswer>> {
  let clockMs = 0;
  const answers = new Map<number, SimulatedAnswer>();
  const coming = arrivals.toSorted((a, b) => a.atMs - b.atMs);
  const engine = new SimulatedEngine({
    simulation: parseSimulation(options),
    now: () => clockMs * 1000,
    sleep: async (ms, signal) => {
      signal.throwIfAborted();
      clockMs += ms;
      return Promise.resolve();
    },
  });
  let live = 0;
  const submitDue = (): void => {
    if (live === 0) clockMs = Math.max(clockMs, coming[0]?.atMs ?? 0);
    while (coming[0] !== undefined && coming[0].atMs <= clockMs) {
      const { submission } = coming.shift()!;
      answers.set(submission.handle, {
        arrivedMs: clockMs,
        tokenIds: [],
        tokensMs: [],
        end: undefined,
      });
      live += 1;
      engine.submit([submission]);
    }
  };
  await new Promise<void>((resolve, reject) => {
    engine.listen({
      onStep: ({ handles, tokenIds, finished }) => {
        for (const [index, handle] of handles.entries()) {
          const answer = answers.get(handle);
          answer?.tokenIds.push(tokenIds[index] ?? -1);
          answer?.tokensMs.push(clockMs);
        }
        for (const end of finished) {
          answers.get(end.handle)!.end = end;
          live -= 1;
        }
        submitDue();
        if (live === 0) resolve();
      },
      onFatal: reject,
    });
    submitDue();
  });
  await engine.close();
  return answers;
}

/** The value that a share of the values, 0 to 1, does not exceed. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.ceil(sorted.length * share) - 1] ?? NaN;
}
