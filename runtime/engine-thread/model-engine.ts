import type {
  Engine,
  EngineInfo,
  EngineListener,
  EngineLoad,
  StepOutput,
  Submission,
} from '../engine/engine.ts';
import { EMPTY_CACHES } from '../engine/engine.ts';
import type { EngineThread } from './engine-thread.ts';
import { HangWatch } from './hang-watch.ts';

/** How often the engine thread's progress is looked at, in milliseconds. */
const WATCH_INTERVAL_MS = 250;
/** How long close() lets the thread end what it is doing, in milliseconds. */
const CLOSE_GRACE_MS = 2_000;

/** The engine whose loop runs in the engine thread, as the main thread sees it. The thread must have been started. */
export class ModelEngine implements Engine {
  readonly info: EngineInfo;
  readonly #thread: EngineThread;
  readonly #live = new Set<number>();
  readonly #watch = new HangWatch(2 * WATCH_INTERVAL_MS);
  readonly #timer: NodeJS.Timeout;
  /** Prompt lengths of submissions that the thread's load does not include yet, oldest first. */
  #unseen: number[] = [];
  #submitted = 0;
  #load: EngineLoad;
  #listener: EngineListener | undefined;

  constructor(thread: EngineThread, info: EngineInfo) {
    this.info = info;
    this.#thread = thread;
    this.#load = {
      running: 0,
      waiting: 0,
      waitingUncachedTokens: 0,
      kvBlocksUsed: 0,
      kvBlocks: info.kvBlocks,
      stepUs: 0,
      caches: EMPTY_CACHES,
    };
    this.#timer = setInterval(() => this.#observe(), WATCH_INTERVAL_MS).unref();
  }

  listen(listener: EngineListener): void {
    this.#listener = listener;
    this.#thread.listen({
      onOutput: (output, load, seen) => this.#receive(output, load, seen),
      onFatal: (error) => {
        clearInterval(this.#timer);
        listener.onFatal(error);
      },
    });
  }

  submit(submissions: readonly Submission[]): void {
    if (submissions.length === 0) return;
    for (const { handle, tokenIds } of submissions) {
      this.#live.add(handle);
      this.#unseen.push(tokenIds.length);
    }
    this.#submitted += submissions.length;
    this.#thread.submit(submissions);
    this.#observe();
  }

  abort(handles: readonly number[]): void {
    if (handles.length > 0) this.#thread.abort(handles);
  }

  load(): EngineLoad {
    if (this.#unseen.length === 0) return this.#load;
    return {
      ...this.#load,
      waiting: this.#load.waiting + this.#unseen.length,
      waitingUncachedTokens:
        this.#load.waitingUncachedTokens + this.#unseen.reduce((sum, length) => sum + length, 0),
    };
  }

  stalledMs(): number {
    return this.#watch.stalledMs;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#thread.close(CLOSE_GRACE_MS);
  }

  #receive(output: StepOutput, load: EngineLoad, seen: number): void {
    this.#load = load;
    const unseen = this.#submitted - seen;
    if (unseen < this.#unseen.length) this.#unseen = unseen === 0 ? [] : this.#unseen.slice(-unseen);
    for (const { handle } of output.finished) this.#live.delete(handle);
    this.#listener?.onStep({ ...output, load: this.load() });
  }

  #observe(): void {
    this.#watch.observe(this.#thread.progress, this.#live.size > 0, performance.now());
  }
}
