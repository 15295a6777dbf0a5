// Between the engine, which knows one flat set of handles, and its clients (sessions, debug calls), each with handles of its own. Splits
// every step's output by client: one call per client and step.

import type { Engine, FinishedSequence, StepOutput, Submission, TokenLogprob } from '../engine/engine.ts';
import type { RuntimeMetrics } from '../metrics.ts';

/** A client's share of a step, in the client's own handles. */
export interface ClientOutput {
  readonly step: number;
  readonly handles: number[];
  readonly counts: number[];
  readonly tokenIds: number[];
  readonly logprobs: { readonly handle: number; readonly tokens: readonly TokenLogprob[] }[];
  readonly finished: FinishedSequence[];
}

export interface DispatcherClient {
  /** Called for steps that have something for this client. */
  onOutput(output: ClientOutput): void;
  /** Called after each step, when every client has its output. */
  onStepEnd(): void;
  /** The engine is lost; `handles` are the client's live ones. */
  onLost(error: Error, handles: readonly number[]): void;
}

interface LiveRequest {
  readonly client: DispatcherClient;
  readonly handle: number;
  readonly promptTokens: number;
  readonly submittedAt: number;
  lastTokenAt: number | undefined;
}

/** Owns the engine's handle namespace. */
export class Dispatcher {
  readonly engine: Engine;
  readonly #metrics: RuntimeMetrics;
  readonly #now: () => number;
  readonly #live = new Map<number, LiveRequest>();
  /** Live handles of each connected client -> engine handles. */
  readonly #clients = new Map<DispatcherClient, Map<number, number>>();
  readonly #idle = new Set<() => void>();
  #nextHandle = 1;
  #lost: Error | undefined;

  /** onFatal: the engine is lost; whoever decides what it was lost to then calls `lose`. now: milliseconds of a monotonic clock. */
  constructor(
    engine: Engine,
    metrics: RuntimeMetrics,
    onFatal: (error: Error) => void,
    now: () => number = () => performance.now(),
  ) {
    this.engine = engine;
    this.#metrics = metrics;
    this.#now = now;
    engine.listen({ onStep: (output) => this.#dispatch(output), onFatal });
  }

  /** Requests in the engine, of all clients. */
  get numLive(): number {
    return this.#live.size;
  }

  /** What the engine was lost to, once it is. */
  get lost(): Error | undefined {
    return this.#lost;
  }

  connect(client: DispatcherClient): void {
    this.#clients.set(client, new Map());
  }

  /** Aborts whatever the client has running and forgets it. */
  disconnect(client: DispatcherClient): void {
    const handles = this.#clients.get(client);
    if (!handles) return;
    this.#clients.delete(client);
    if (handles.size > 0) this.engine.abort([...handles.values()]);
  }

  isLive(client: DispatcherClient, handle: number): boolean {
    return this.#clients.get(client)?.has(handle) ?? false;
  }

  /** Submits with handles of the client's namespace, none of them live. */
  submit(client: DispatcherClient, submissions: readonly Submission[]): void {
    const handles = this.#clients.get(client);
    if (!handles || this.#lost) return;
    const submittedAt = this.#now();
    const renamed = submissions.map((submission) => {
      const engineHandle = this.#allocateHandle();
      const { handle, tokenIds } = submission;
      handles.set(handle, engineHandle);
      this.#live.set(engineHandle, {
        client,
        handle,
        promptTokens: tokenIds.length,
        submittedAt,
        lastTokenAt: undefined,
      });
      return { ...submission, handle: engineHandle };
    });
    this.engine.submit(renamed);
  }

  abort(client: DispatcherClient, handles: readonly number[]): void {
    const own = this.#clients.get(client);
    const known = handles.flatMap((handle) => own?.get(handle) ?? []);
    if (known.length > 0) this.engine.abort(known);
  }

  abortAll(): void {
    this.engine.abort([...this.#live.keys()]);
  }

  /** Resolves when nothing is live. */
  idle(): Promise<void> {
    if (this.#live.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.add(resolve));
  }

  /** Tells every client that the engine is lost, once. */
  lose(error: Error): void {
    if (this.#lost) return;
    this.#lost = error;
    const clients = [...this.#clients];
    this.#clients.clear();
    this.#live.clear();
    for (const [client, handles] of clients) client.onLost(error, [...handles.keys()]);
    this.#wakeIdle();
  }

  // 32 bits are enough for months; a handle that is still live when they come round is passed over.
  #allocateHandle(): number {
    while (this.#live.has(this.#nextHandle)) this.#advanceHandle();
    const handle = this.#nextHandle;
    this.#advanceHandle();
    return handle;
  }

  #advanceHandle(): void {
    this.#nextHandle = this.#nextHandle >= 0xffffffff ? 1 : this.#nextHandle + 1;
  }

  #dispatch(output: StepOutput): void {
    if (this.#lost) return;
    const outputs = new Map<DispatcherClient, ClientOutput>();
    const outputOf = (request: LiveRequest): ClientOutput => {
      let own = outputs.get(request.client);
      if (!own) {
        own = { step: output.step, handles: [], counts: [], tokenIds: [], logprobs: [], finished: [] };
        outputs.set(request.client, own);
      }
      return own;
    };
    const now = this.#now();
    let at = 0;
    for (const [index, engineHandle] of output.handles.entries()) {
      const count = output.counts[index]!;
      const request = this.#live.get(engineHandle);
      if (request) {
        const own = outputOf(request);
        own.handles.push(request.handle);
        own.counts.push(count);
        for (let token = at; token < at + count; token += 1) own.tokenIds.push(output.tokenIds[token]!);
        this.#observeTokens(request, count, now);
      }
      at += count;
    }
    for (const { handle, tokens } of output.logprobs) {
      const request = this.#live.get(handle);
      if (request) outputOf(request).logprobs.push({ handle: request.handle, tokens });
    }
    for (const finished of output.finished) {
      const request = this.#live.get(finished.handle);
      if (!request) continue;
      this.#live.delete(finished.handle);
      this.#clients.get(request.client)?.delete(request.handle);
      outputOf(request).finished.push({ ...finished, handle: request.handle });
      this.#metrics.finished(finished.reason);
    }
    if (output.duration !== undefined) this.#metrics.step(output.duration, output);
    for (const [client, own] of outputs) {
      if (this.#clients.has(client)) client.onOutput(own);
    }
    for (const client of this.#clients.keys()) client.onStepEnd();
    if (this.#live.size === 0) this.#wakeIdle();
  }

  #observeTokens(request: LiveRequest, count: number, now: number): void {
    if (request.lastTokenAt === undefined) {
      this.#metrics.firstToken((now - request.submittedAt) / 1000, request.promptTokens);
    } else {
      this.#metrics.laterTokens((now - request.lastTokenAt) / 1000, count);
    }
    request.lastTokenAt = now;
  }

  #wakeIdle(): void {
    for (const resolve of this.#idle) resolve();
    this.#idle.clear();
  }
}
