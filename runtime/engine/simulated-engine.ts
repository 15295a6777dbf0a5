// The engine without a model: the real scheduler and step loop over an executor that only takes time. What stands on the Engine interface
// (server, router, operator) is tested against it.

import { setTimeout as delay } from 'node:timers/promises';

import { EngineCore } from './engine-core.ts';
import { DEFAULT_TUNING } from './engine-tuning.ts';
import type { Engine, EngineInfo, EngineListener, EngineLoad, Submission } from './engine.ts';
import { mix } from './seeded-random.ts';
import { SimulatedExecutor } from './simulated-executor.ts';
import type { SimulatedExecutorOptions } from './simulated-executor.ts';
import type { Simulation } from './simulation.ts';

export interface SimulatedEngineOptions {
  readonly simulation: Simulation;
  /** Microseconds; the process's monotonic clock when absent. */
  readonly now?: () => number;
  /** A timer when absent. */
  readonly sleep?: SimulatedExecutorOptions['sleep'];
}

/** An Engine on the calling thread, see simulation.ts for what it can be made to do. */
export class SimulatedEngine implements Engine {
  readonly info: EngineInfo;
  readonly #core: EngineCore;
  readonly #stop = new AbortController();
  #listener: EngineListener | undefined;
  #loop: Promise<void> | undefined;
  #lost = false;

  constructor({ simulation, now = monotonicUs, sleep = timer }: SimulatedEngineOptions) {
    const { maxModelLength, vocabSize, blockSize, kvBlocks, maxSequences } = simulation;
    this.info = { maxModelLength, vocabSize, blockSize, kvBlocks, maxSequences };
    this.#core = new EngineCore({
      info: this.info,
      tuning: {
        ...DEFAULT_TUNING,
        maxBatchedTokens: simulation.maxBatchedTokens,
        stepTargetMs: simulation.stepTargetMs,
        maxWaiting: simulation.maxWaiting,
        prefixCache: simulation.prefixCache,
        encoderCacheBytes: simulation.encoderCacheBytes,
        imageBytes: simulation.imageBytes,
      },
      executor: new SimulatedExecutor({ simulation, sleep, signal: this.#stop.signal }),
      now,
      randomSeed: () => BigInt(simulation.seed),
      refuse: ({ handle }) => (isRefused(simulation, handle) ? 'simulated refusal' : undefined),
    });
  }

  listen(listener: EngineListener): void {
    if (this.#listener !== undefined) throw new Error('the engine has a listener already');
    this.#listener = listener;
    this.#loop = this.#run(listener);
  }

  submit(submissions: readonly Submission[]): void {
    if (!this.#lost) this.#core.submit(submissions);
  }

  abort(handles: readonly number[]): void {
    if (!this.#lost) this.#core.abort(handles);
  }

  load(): EngineLoad {
    return this.#core.load();
  }

  stalledMs(): number {
    return this.#core.stalledUs / 1000;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    this.#lost = true;
  }

  async #run(listener: EngineListener): Promise<void> {
    try {
      await this.#core.run(this.#stop.signal, (output) => {
        listener.onStep(output);
      });
    } catch (error) {
      if (this.#stop.signal.aborted && error instanceof Error && error.name === 'AbortError') {
        // close cut the step short: what it would have given ends like the rest.
        const last = this.#core.abortAll();
        if (last !== undefined) listener.onStep(last);
        return;
      }
      this.#lost = true;
      listener.onFatal(error instanceof Error ? error : new Error(String(error)));
    }
  }
}

function isRefused({ rejectRate, seed }: Simulation, handle: number): boolean {
  return mix(seed, handle) < rejectRate * 2 ** 32;
}

function monotonicUs(): number {
  return performance.now() * 1000;
}

async function timer(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal });
}
