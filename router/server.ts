// The public Inference service: calls become routed requests, and what comes back becomes messages. Each call ends exactly once, and
// whatever ends it (answer, error, cancel, deadline, slow reader) takes its sequence off the replica.

import { randomUUID } from 'node:crypto';
import { status, type ServerUnaryCall, type ServerWritableStream } from '@grpc/grpc-js';
import { answer } from '../rpc/guard.ts';
import { fromServiceError, isServiceError, RpcError } from '../rpc/status.ts';
import { StreamWriter } from '../rpc/writer.ts';
import {
  GenerateEvent,
  type CountTokensRequest,
  type CountTokensResponse,
  type GenerateRequest,
  type GenerateResult,
  type GetModelRequest,
  type InferenceServer,
  type ListModelsRequest,
  type ListModelsResponse,
  type Model,
} from '../gen/proto/internvl/v1/inference.ts';
import { Answer, type AnswerModel, type AnswerSink } from './answer.ts';
import { collectResult } from './collect.ts';
import type { Dispatcher } from './dispatcher.ts';
import { admit, bytesOf, promptOf, type Admitted } from './intake.ts';
import type { RouterMetrics } from './metrics.ts';
import type { ModelGate } from './model-gate.ts';
import type { ServedModel } from './models.ts';
import { AnswerText } from './output.ts';
import type { PictureStore } from './picture-store.ts';
import { RoutedRequest } from './request.ts';
import { checkMessages, checkModel, type RequestLimits } from './validate.ts';

/** What one client may leave unread before it is cut off. */
const MAX_UNREAD_BYTES = 1 << 20;
const MAX_UNREAD_MS = 30_000;

export interface InferenceOptions {
  readonly dispatcher: Dispatcher;
  readonly gate: ModelGate;
  readonly pictures: PictureStore;
  readonly metrics: RouterMetrics;
  readonly limits: (model: ServedModel) => RequestLimits;
  readonly describe: (model: ServedModel) => Model;
  readonly now: () => number;
  readonly maxUnreadBytes?: number;
}

type Call = ServerUnaryCall<unknown, unknown> | ServerWritableStream<GenerateRequest, GenerateEvent>;

/** The handlers of internvl.v1.Inference. */
export class Inference {
  readonly #options: InferenceOptions;
  readonly #calls = new Set<AbortController>();
  #draining = false;

  constructor(options: InferenceOptions) {
    this.#options = options;
  }

  /** From now on new calls are refused; those under way go on. */
  drain(): void {
    this.#draining = true;
  }

  handlers(): InferenceServer {
    return {
      generate: (call) => this.#generate(call) as unknown as void,
      generateOnce: answer((call: ServerUnaryCall<GenerateRequest, GenerateResult>) =>
        this.#generateOnce(call),
      ),
      countTokens: answer((call: ServerUnaryCall<CountTokensRequest, CountTokensResponse>) =>
        this.#countTokens(call),
      ),
      listModels: answer((call: ServerUnaryCall<ListModelsRequest, ListModelsResponse>) =>
        this.#listModels(call),
      ),
      getModel: answer((call: ServerUnaryCall<GetModelRequest, Model>) => this.#getModel(call)),
    };
  }

  async #generate(call: ServerWritableStream<GenerateRequest, GenerateEvent>): Promise<void> {
    const writer = new StreamWriter<GenerateEvent>(call, {
      byteLength: (event) => GenerateEvent.encode(event).finish().length,
      maxBytes: this.#options.maxUnreadBytes ?? MAX_UNREAD_BYTES,
      maxAgeMs: MAX_UNREAD_MS,
    });
    await this.#counted(call, async (signal) => {
      await this.#route(call.request, call, signal, {
        started: (value) => writer.write({ event: { $case: 'started', value } }),
        delta: (value) => writer.write({ event: { $case: 'delta', value } }),
        finished: (value) => {
          writer.write({ event: { $case: 'finished', value } });
          writer.end();
        },
        // The handler's rejection ends the call; answers that wait behind a slow reader are dropped with it.
        failed: () => undefined,
      });
    });
  }

  #generateOnce(call: ServerUnaryCall<GenerateRequest, GenerateResult>): Promise<GenerateResult> {
    return this.#counted(call, async (signal) => {
      const result = collectResult();
      await this.#route(call.request, call, signal, result.sink);
      return result.value();
    });
  }

  #countTokens(call: ServerUnaryCall<CountTokensRequest, CountTokensResponse>): Promise<CountTokensResponse> {
    return this.#withModel(call, (model) => {
      const limits = this.#options.limits(model);
      checkModel(call.request.model, limits.servedName);
      const prompt = promptOf(model, checkMessages(call.request.messages, limits));
      return {
        promptTokens: prompt.tokenIds.length,
        imageTokens: prompt.images.reduce((sum, { length }) => sum + length, 0),
      };
    });
  }

  #listModels(call: ServerUnaryCall<ListModelsRequest, ListModelsResponse>): Promise<ListModelsResponse> {
    return this.#withModel(call, (model) => ({ models: [this.#options.describe(model)] }));
  }

  #getModel(call: ServerUnaryCall<GetModelRequest, Model>): Promise<Model> {
    return this.#withModel(call, (model) => {
      const described = this.#options.describe(model);
      checkModel(call.request.model, described.name);
      return described;
    });
  }

  async #withModel<T>(call: Call, use: (model: ServedModel) => T): Promise<T> {
    const { signal, close } = this.#watch(call);
    try {
      return use(await this.#options.gate.wait(signal));
    } finally {
      close();
    }
  }

  /** Runs one generation call and counts how it ended. */
  async #counted<T>(call: Call, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { signal, close } = this.#watch(call);
    let code: string = status[status.OK];
    try {
      if (this.#draining)
        throw new RpcError(status.UNAVAILABLE, 'DRAINING', 'this router is shutting down', {
          retryAfterMs: 0,
        });
      return await run(signal);
    } catch (error) {
      code = status[error instanceof RpcError ? error.code : status.INTERNAL] ?? 'UNKNOWN';
      throw error;
    } finally {
      close();
      this.#options.metrics.requests.inc({ code });
    }
  }

  /** Resolves when the sink has been told everything; rejects with the RpcError that ends the call. */
  async #route(request: GenerateRequest, call: Call, signal: AbortSignal, sink: AnswerSink): Promise<void> {
    const { dispatcher, gate, pictures, metrics, now } = this.#options;
    const startedAt = now();
    const deadlineAt = deadlineOf(call, startedAt);
    const model = await gate.wait(signal, bytesOf(request));
    signal.throwIfAborted();
    const releases: (() => void)[] = [];
    const releasePictures = (): void => releases.splice(0).forEach((release) => release());
    const admitTo = (target: ServedModel): Admitted => {
      const admitted = admit(request, deadlineAt, target, this.#options.limits(target), pictures);
      releases.push(admitted.releasePictures);
      return admitted;
    };
    const answerOf = (target: ServedModel, { work, imageTokens }: Admitted): AnswerModel => ({
      promptTokenIds: work.tokenIds,
      imageTokens,
      text: new AnswerText(target.detokenizer(), {
        stops: request.sampling?.stop ?? [],
        minTokens: request.sampling?.minTokens ?? 0,
      }),
    });
    const admitted = admitTo(model);
    try {
      await new Promise<void>((resolve, reject) => {
        const listener = new Answer({
          requestId: request.requestId === '' ? randomUUID() : request.requestId,
          returnPromptTokenIds: request.output?.promptTokenIds ?? false,
          model: answerOf(model, admitted),
          sink: {
            ...sink,
            finished: (finished) => {
              sink.finished(finished);
              resolve();
            },
            failed: (error) => {
              sink.failed(error);
              reject(error);
            },
          },
          metrics,
          now,
          startedAt,
          placedAt: () => routed.placedAt,
          stop: () => dispatcher.cancel(routed),
          onFirstToken: releasePictures,
        });
        const routed = new RoutedRequest({
          model,
          work: admitted.work,
          retarget: (target) => {
            const again = admitTo(target);
            listener.retarget(answerOf(target, again));
            return again.work;
          },
          affinityKey: request.affinityKey,
          bytes: admitted.bytes,
          now: startedAt,
          listener,
        });
        signal.addEventListener('abort', () => {
          dispatcher.cancel(routed);
          reject(signal.reason as Error);
        });
        dispatcher.submit(routed);
      });
    } finally {
      releasePictures();
    }
  }

  /** A signal that fires, with the RpcError as reason, when nobody waits for the call any more. */
  #watch(call: Call): { readonly signal: AbortSignal; readonly close: () => void } {
    const controller = new AbortController();
    this.#calls.add(controller);
    const deadlineAt = deadlineOf(call, this.#options.now());
    const gone = (): void => {
      const late = deadlineAt !== undefined && this.#options.now() >= deadlineAt;
      controller.abort(
        late
          ? new RpcError(
              status.DEADLINE_EXCEEDED,
              'DEADLINE_EXCEEDED',
              'the deadline passed before the answer was complete',
            )
          : new RpcError(status.CANCELLED, 'CANCELLED', 'the client cancelled the call'),
      );
    };
    if (call.cancelled) gone();
    call.on('cancelled', gone);
    call.on('close', gone);
    // The writer cuts a slow reader off with an error event.
    call.on('error', (error: Error) => {
      if (isServiceError(error)) controller.abort(fromServiceError(error));
      else controller.abort(new RpcError(status.INTERNAL, 'STREAM_FAILED', error.message, { cause: error }));
    });
    return { signal: controller.signal, close: () => void this.#calls.delete(controller) };
  }
}

/** The call's deadline on the router's clock; undefined when it has none. */
function deadlineOf(call: Call, now: number): number | undefined {
  const deadline = call.getDeadline();
  const epochMs = deadline instanceof Date ? deadline.getTime() : deadline;
  return Number.isFinite(epochMs) ? now + (epochMs - Date.now()) : undefined;
}
