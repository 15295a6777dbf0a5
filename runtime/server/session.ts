// One router's Session stream: submissions in, one StepOutput per step out. Every submitted handle ends exactly once here, as Done or
// Rejected, unless the stream ends first; then the engine aborts what is left.

import { status } from '@grpc/grpc-js';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import { EngineMessage } from '../../gen/proto/internvl/engine/v1/engine.ts';
import type { Load, RouterMessage, Submit } from '../../gen/proto/internvl/engine/v1/engine.ts';
import type { Logger } from '../../rpc/log.ts';
import { RpcError } from '../../rpc/status.ts';
import { StreamWriter } from '../../rpc/writer.ts';
import type { Submission } from '../engine/engine.ts';
import type { ClientOutput, DispatcherClient } from './dispatcher.ts';
import type { SessionHub } from './session-hub.ts';
import { PictureWaits } from './picture-waits.ts';
import { isBadRequest, readSubmit, toDone, toWireLogprobs } from './wire.ts';

const HEARTBEAT_INTERVAL_MS = 1_000; // half of what the protocol promises
const MAX_SILENCE_MS = 20_000; // four heartbeats of the router
const FLUSH_MS = 200; // for what tells a router that its requests are lost
const MAX_TIMEOUT_MS = 0x7fffffff; // what a timer can hold

type Message = NonNullable<EngineMessage['message']>;

/** A connected router. */
export class Session implements DispatcherClient {
  readonly #hub: SessionHub;
  readonly #logger: Logger;
  readonly #writer: StreamWriter<EngineMessage>;
  readonly #waits: PictureWaits;
  readonly #deadlines = new Map<number, NodeJS.Timeout>();
  readonly #heartbeat: NodeJS.Timeout;
  #welcomed = false;
  #closed = false;
  #lastSeq = 0;
  #creditsTold = 0;
  #loadDue = false;
  #receivedAt = performance.now();
  #sentAt = 0;

  constructor(call: ServerDuplexStream<RouterMessage, EngineMessage>, hub: SessionHub, logger: Logger) {
    this.#hub = hub;
    this.#logger = logger;
    this.#writer = new StreamWriter<EngineMessage>(call, {
      byteLength: (message) => EngineMessage.encode(message).finish().length,
    });
    this.#waits = new PictureWaits(hub, {
      need: (hash) => this.#send({ $case: 'needImage', value: { hash: Buffer.from(hash, 'hex') } }),
      ready: (submission) => hub.dispatcher.submit(this, [submission]),
      reject: (handle, error) => this.#reject(handle, error.code, error.reason, error.message),
    });
    this.#heartbeat = setInterval(() => this.#beat(), HEARTBEAT_INTERVAL_MS);
    call.on('data', (message: RouterMessage) => this.#receive(message));
    for (const event of ['end', 'cancelled', 'close', 'error']) call.on(event, () => this.close());
  }

  onOutput(output: ClientOutput): void {
    for (const { handle } of output.finished) this.#clearDeadline(handle);
    const done = output.finished.filter(({ reason }) => reason !== 'error');
    if (output.handles.length > 0 || done.length > 0) {
      this.#send({
        $case: 'stepOutput',
        value: {
          step: output.step,
          handles: output.handles,
          counts: output.counts,
          tokenIds: output.tokenIds,
          logprobs: output.logprobs.map(({ handle, tokens }) => ({ handle, tokens: toWireLogprobs(tokens) })),
          done: done.map(toDone),
          load: this.#load(),
        },
      });
    }
    for (const { handle, reason, message } of output.finished) {
      if (reason !== 'error') continue;
      this.#reject(handle, status.INTERNAL, 'SEQUENCE_FAILED', message ?? 'the engine gave the sequence up');
    }
  }

  onStepEnd(): void {
    // A session without output of its own still has to learn that others made room.
    if (this.#welcomed && this.#hub.creditsOf(this) !== this.#creditsTold) this.loadChanged();
  }

  onLost(error: Error, handles: readonly number[]): void {
    const message = `the replica failed: ${error.message}`;
    for (const handle of [...handles, ...this.#waits.handles()]) {
      this.#reject(handle, status.UNAVAILABLE, 'REPLICA_FAILED', message);
    }
    this.#writer.failAfterFlush(new RpcError(status.UNAVAILABLE, 'REPLICA_FAILED', message), FLUSH_MS);
    this.close();
  }

  drainChanged(undone: boolean): void {
    if (this.#welcomed) this.#send({ $case: 'draining', value: { undone } });
  }

  /** Sends the load soon, if no step output carries it first. */
  loadChanged(): void {
    if (this.#loadDue || !this.#welcomed) return;
    this.#loadDue = true;
    setImmediate(() => {
      if (!this.#loadDue || this.#closed) return;
      this.#send({
        $case: 'stepOutput',
        value: { step: 0, handles: [], counts: [], tokenIds: [], logprobs: [], done: [], load: this.#load() },
      });
    });
  }

  /** Ends the stream with an error now. */
  fail(error: RpcError): void {
    this.#writer.fail(error);
    this.close();
  }

  /** Aborts everything of this session and forgets it. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#heartbeat);
    for (const timer of this.#deadlines.values()) clearTimeout(timer);
    this.#deadlines.clear();
    this.#waits.cancelAll();
    this.#hub.leave(this);
    this.#writer.end();
  }

  #receive({ message }: RouterMessage): void {
    if (this.#closed) return;
    this.#receivedAt = performance.now();
    if (!this.#welcomed && message?.$case !== 'hello') {
      const got = message?.$case ?? 'an unknown message';
      this.fail(
        new RpcError(
          status.INVALID_ARGUMENT,
          'HELLO_EXPECTED',
          `the first message must be hello, not ${got}`,
        ),
      );
      return;
    }
    switch (message?.$case) {
      case 'hello':
        this.#welcome(message.value.routerId);
        break;
      case 'submitBatch':
        this.#submitBatch(message.value.submits);
        break;
      case 'abort':
        this.#abort(message.value.handles);
        break;
      case 'heartbeat':
      case undefined: // from a later version of the protocol
        break;
    }
  }

  #welcome(routerId: string): void {
    if (this.#welcomed) {
      this.fail(new RpcError(status.INVALID_ARGUMENT, 'HELLO_REPEATED', 'hello was sent twice'));
      return;
    }
    this.#hub.join(this);
    this.#welcomed = true;
    const { replica } = this.#hub;
    this.#send({
      $case: 'welcome',
      value: { engineEpoch: replica.epoch, info: replica.wireInfo, load: this.#load() },
    });
    if (this.#hub.draining) this.#send({ $case: 'draining', value: { undone: false } });
    this.#logger.info('router connected', { router: routerId.slice(0, 128) });
  }

  #submitBatch(submits: readonly Submit[]): void {
    const ready: Submission[] = [];
    const pending = new Set<number>();
    for (const submit of submits) {
      this.#lastSeq = submit.seq;
      const { handle } = submit;
      if (pending.has(handle) || this.#isLive(handle)) {
        // Rejected would end the live one in the router's eyes: the session itself is broken.
        this.fail(
          new RpcError(
            status.INVALID_ARGUMENT,
            'DUPLICATE_HANDLE',
            `handle ${handle} was submitted while it is live`,
          ),
        );
        return;
      }
      const submission = this.#admit(submit, ready.length);
      if (submission === undefined) continue;
      pending.add(handle);
      ready.push(submission);
    }
    if (ready.length > 0) this.#hub.dispatcher.submit(this, ready);
  }

  /** The submission if it can go to the engine now; otherwise it was refused or parked. */
  #admit(submit: Submit, admitted: number): Submission | undefined {
    const refused = this.#hub.refusal(admitted);
    if (refused) {
      this.#reject(submit.handle, refused.code, refused.reason, refused.message);
      return undefined;
    }
    const request = readSubmit(submit, this.#hub.replica);
    if (isBadRequest(request)) {
      this.#reject(submit.handle, status.INVALID_ARGUMENT, request.reason, request.message);
      return undefined;
    }
    this.#startDeadline(submit.handle, submit.deadlineMs);
    if (request.images.length === 0) return { ...request, images: [] };
    this.#waits.add(request);
    return undefined;
  }

  #abort(handles: readonly number[]): void {
    for (const handle of handles) {
      if (!this.#waits.cancel(handle)) continue;
      this.#reject(handle, status.CANCELLED, 'ABORTED', 'aborted while it waited for a picture');
    }
    this.#hub.dispatcher.abort(this, handles);
  }

  #startDeadline(handle: number, deadlineMs: number): void {
    if (deadlineMs === 0) return;
    const timer = setTimeout(() => this.#abort([handle]), Math.min(deadlineMs, MAX_TIMEOUT_MS));
    this.#deadlines.set(handle, timer);
  }

  #clearDeadline(handle: number): void {
    clearTimeout(this.#deadlines.get(handle));
    this.#deadlines.delete(handle);
  }

  #isLive(handle: number): boolean {
    return this.#waits.has(handle) || this.#hub.dispatcher.isLive(this, handle);
  }

  #reject(handle: number, code: status, reason: string, message: string): void {
    this.#clearDeadline(handle);
    this.#send({ $case: 'rejected', value: { handle, code, reason, message } });
    this.#hub.rejected();
    this.loadChanged(); // the credit it took is free again
  }

  #load(): Load {
    this.#loadDue = false;
    this.#creditsTold = this.#hub.creditsOf(this);
    const load = this.#hub.dispatcher.engine.load();
    return {
      running: load.running,
      waiting: load.waiting + this.#hub.parking.numParked,
      waitingUncachedTokens: load.waitingUncachedTokens,
      kvBlocksUsed: load.kvBlocksUsed,
      kvBlocks: load.kvBlocks,
      stepUs: load.stepUs,
      lastSubmitSeq: this.#lastSeq,
      credits: this.#creditsTold,
    };
  }

  #send(message: Message): void {
    this.#sentAt = performance.now();
    this.#writer.write({ message });
  }

  #beat(): void {
    const now = performance.now();
    if (now - this.#receivedAt > MAX_SILENCE_MS) {
      this.fail(
        new RpcError(
          status.UNAVAILABLE,
          'HEARTBEAT_MISSED',
          `the router sent nothing for ${MAX_SILENCE_MS} ms`,
        ),
      );
    } else if (this.#welcomed && now - this.#sentAt >= HEARTBEAT_INTERVAL_MS) {
      this.#send({ $case: 'heartbeat', value: {} });
    }
  }
}
