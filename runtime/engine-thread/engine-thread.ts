// The main thread's end of the engine thread. Nothing here waits for a step: the thread may be inside native code for as long as it
// likes, and how long it has been stuck there is read from shared memory.

import { Worker } from 'node:worker_threads';
import type { EngineLoad, StepOutput, Submission } from '../engine/engine.ts';
import type { Extent, Measured } from '../preflight/measurement.ts';
import type {
  FromWorker,
  Joined,
  LoadProgress,
  Prepared,
  Started,
  StepDone,
  ThreadFault,
  ThreadOptions,
  ToWorker,
  WorkerData,
} from './messages.ts';

/** The engine thread failed: `name` and `code` are those of the error that it died of. */
export class EngineThreadError extends Error {
  readonly code: string;

  constructor(fault: ThreadFault) {
    super(fault.message);
    this.name = fault.name;
    this.code = fault.code;
    if (fault.stack !== undefined) this.stack = fault.stack;
  }
}

export interface EngineThreadEvents {
  onPlan?(step: number, bytes: Uint8Array): void;
  onStepDone?(done: StepDone): void;
  onOutput?(output: StepOutput, load: EngineLoad, submissionsSeen: number): void;
  onLoadProgress?(progress: LoadProgress): void;
  onStarted?(started: Started): void;
  /** At most once. Every pending request rejects with the same error. */
  onFatal(error: EngineThreadError): void;
}

interface Replies {
  prepared: Prepared;
  joined: Joined;
  measured: Measured;
  loaded: { readonly bytes: number };
  started: Started;
  closed: undefined;
}

interface Waiter {
  resolve(value: never): void;
  reject(error: Error): void;
}

/** A running engine thread: requests in, events out. */
export class EngineThread {
  readonly #worker: Worker;
  readonly #progress = new Int32Array(new SharedArrayBuffer(4));
  readonly #waiting = new Map<keyof Replies, Waiter>();
  readonly #events: EngineThreadEvents[] = [];
  readonly #exited: Promise<void>;
  #failure: EngineThreadError | undefined;
  #closing = false;

  constructor(options: ThreadOptions) {
    const workerData: WorkerData = { options, progress: this.#progress.buffer };
    this.#worker = new Worker(new URL(`./worker${import.meta.filename.slice(-3)}`, import.meta.url), {
      workerData,
    });
    this.#worker.on('message', (message: FromWorker) => this.#receive(message));
    this.#worker.on('error', (err: Error) => {
      this.#fail({ name: err.name, code: 'engine_thread', message: err.message, stack: err.stack });
    });
    this.#exited = new Promise((resolve) => {
      this.#worker.on('exit', (code) => {
        if (!this.#closing) {
          const message = `the engine thread ended with code ${code}`;
          this.#fail({ name: 'EngineThreadError', code: 'engine_thread', message, stack: undefined });
        }
        resolve();
      });
    });
  }

  /** Adds a listener; of several, each gets every event. */
  listen(events: EngineThreadEvents): void {
    this.#events.push(events);
    if (this.#failure) events.onFatal(this.#failure);
  }

  /** Rises while the thread gets on; wraps around. */
  get progress(): number {
    return Atomics.load(this.#progress, 0) >>> 0;
  }

  prepare(): Promise<Prepared> {
    return this.#request({ type: 'prepare' }, 'prepared');
  }

  join(): Promise<Joined> {
    return this.#request({ type: 'join' }, 'joined');
  }

  /** Connects to the other ranks and measures the links; rejects without the thread's end when they fail. */
  preflight(peerAddresses: readonly Uint8Array[], extent: Extent): Promise<Measured> {
    return this.#request({ type: 'preflight', peerAddresses, extent }, 'measured');
  }

  load(): Promise<{ readonly bytes: number }> {
    return this.#request({ type: 'load' }, 'loaded');
  }

  async start(kvBlocks: number, peerAddresses: readonly Uint8Array[]): Promise<void> {
    const started = await this.#request({ type: 'start', kvBlocks, peerAddresses }, 'started');
    for (const events of this.#events) events.onStarted?.(started);
  }

  submit(submissions: readonly Submission[]): void {
    const transfer = new Set<ArrayBuffer>();
    for (const { tokenIds } of submissions) {
      if (tokenIds.buffer instanceof ArrayBuffer) transfer.add(tokenIds.buffer);
    }
    this.#post({ type: 'submit', submissions }, [...transfer]);
  }

  abort(handles: readonly number[]): void {
    this.#post({ type: 'abort', handles });
  }

  plan(plan: (ToWorker & { type: 'plan' })['plan']): void {
    this.#post({ type: 'plan', plan });
  }

  /** Ends the thread: gently, or after graceMs by force. False when it is still inside native code then. */
  async close(graceMs: number): Promise<boolean> {
    this.#closing = true;
    const closed = this.#failure ? Promise.resolve() : this.#request({ type: 'close' }, 'closed');
    const gentle = closed.then(
      () => this.#exited,
      () => this.#exited,
    );
    if (await within(gentle, graceMs)) return true;
    const killed = this.#worker.terminate().then(() => undefined);
    return within(killed, 100);
  }

  #request<Reply extends keyof Replies>(message: ToWorker, reply: Reply): Promise<Replies[Reply]> {
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#waiting.set(reply, { resolve, reject });
      this.#post(message);
    });
  }

  #post(message: ToWorker, transfer: ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transfer);
  }

  #receive(message: FromWorker): void {
    switch (message.type) {
      case 'output':
        for (const events of this.#events)
          events.onOutput?.(message.output, message.load, message.submissionsSeen);
        break;
      case 'plan':
        for (const events of this.#events) events.onPlan?.(message.step, message.bytes);
        break;
      case 'stepDone':
        for (const events of this.#events) events.onStepDone?.(message);
        break;
      case 'loadProgress':
        for (const events of this.#events) events.onLoadProgress?.(message.value);
        break;
      case 'fatal':
        this.#fail(message.fault);
        break;
      case 'unmeasured':
        this.#waiting.get('measured')?.reject(new EngineThreadError(message.fault));
        this.#waiting.delete('measured');
        break;
      case 'prepared':
      case 'joined':
      case 'measured':
      case 'loaded':
      case 'started':
      case 'closed':
        this.#waiting.get(message.type)?.resolve(message.value as never);
        this.#waiting.delete(message.type);
        break;
    }
  }

  #fail(fault: ThreadFault): void {
    if (this.#failure) return;
    this.#failure = new EngineThreadError(fault);
    for (const waiter of this.#waiting.values()) waiter.reject(this.#failure);
    this.#waiting.clear();
    for (const events of this.#events) events.onFatal(this.#failure);
  }
}

/** Whether the promise settles within ms. */
async function within(promise: Promise<void>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  try {
    return await Promise.race([promise.then(() => true), timeout]);
  } finally {
    clearTimeout(timer);
  }
}
