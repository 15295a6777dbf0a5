// The public Inference service: calls become routed requests, and what comes back becomes messages. Each call ends exactly once, and
// whatever ends it (answer, error, cancel, deadline, slow reader) takes its sequence off the replica.

import { randomUUID } from 'node:crypto';
import {
  status,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
} from '@grpc/grpc-js';
import { answer, malformedMessage } from '../rpc/guard.ts';
import { RpcError } from '../rpc/status.ts';
import { StreamWriter, type WritableCall } from '../rpc/writer.ts';
import {
  InferenceService,
  type CountTokensRequest,
  type CountTokensResponse,
  type GenerateEvent,
  type GenerateRequest,
  type GenerateResult,
  type GetModelRequest,
  type InferenceServer,
  type ListModelsRequest,
  type ListModelsResponse,
  type Model,
  type PutImageRequest,
  type PutImageResponse,
} from '../gen/proto/internvl/v1/inference.ts';
import type { Prompt } from '../runtime/tokenizer/prompt.ts';
import { Answer, type AnswerModel, type AnswerSink } from './answer.ts';
import type { Background } from './background.ts';
import { Caller, type ServerCall } from './caller.ts';
import { collectResult } from './collect.ts';
import type { Dispatcher } from './dispatcher.ts';
import { MalformedRequest, type RequestTypes } from './decode-request.ts';
import { encodedDelta, encodeEvent, eventEncoder, mergeDeltas, type EncodedEvent } from './events.ts';
import { admit, bytesOf, isHeavy, prepare, promptOf, type Admitted } from './intake.ts';
import { LargeRequest, largeRequests } from './large-request.ts';
import type { RouterMetrics } from './metrics.ts';
import type { ModelGate } from './model-gate.ts';
import type { ServedModel } from './models.ts';
import { AnswerText } from './output.ts';
import type { PictureStore } from './picture-store.ts';
import { receivePicture, type UploadTimes } from './picture-upload.ts';
import { RoutedRequest } from './request.ts';
import { decodeUploadMessage } from './upload-message.ts';
import { checkMessages, checkModel, type RequestLimits } from './validate.ts';

/** What one client may leave unread before it is cut off. */
const MAX_UNREAD_BYTES = 1 << 20;
const MAX_UNREAD_MS = 30_000;

export interface InferenceOptions {
  readonly dispatcher: Dispatcher;
  readonly gate: ModelGate;
  readonly pictures: PictureStore;
  readonly background: Background;
  readonly metrics: RouterMetrics;
  readonly limits: (model: ServedModel) => RequestLimits;
  readonly describe: (model: ServedModel) => Model;
  readonly now: () => number;
  readonly maxUnreadBytes?: number;
  readonly uploads: UploadTimes;
}

type GenerationCall = ServerCall & { readonly request: GenerateRequest | LargeRequest };

/** internvl.v1.Inference with events as `eventEncoder` takes them, and with large requests and pieces of pictures left as they are. */
export const inferenceService = {
  ...InferenceService,
  generate: {
    ...largeRequests(InferenceService.generate),
    responseEncoder: eventEncoder,
  },
  generateOnce: largeRequests(InferenceService.generateOnce),
  countTokens: largeRequests(InferenceService.countTokens),
  putImage: { ...InferenceService.putImage, requestDeserialize: decodeUploadMessage },
};

/** The handlers of internvl.v1.Inference as `inferenceService` defines it. */
export class Inference {
  readonly #options: InferenceOptions;
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
      putImage: answer((call: ServerReadableStream<PutImageRequest, PutImageResponse>) =>
        this.#putImage(call),
      ),
      listModels: answer((call: ServerUnaryCall<ListModelsRequest, ListModelsResponse>) =>
        this.#listModels(call),
      ),
      getModel: answer((call: ServerUnaryCall<GetModelRequest, Model>) => this.#getModel(call)),
    };
  }

  async #generate(call: ServerWritableStream<GenerateRequest, GenerateEvent>): Promise<void> {
    const writer = new StreamWriter(call as unknown as WritableCall<EncodedEvent>, {
      byteLength: (event) => eventEncoder.byteLength(event),
      merge: mergeDeltas,
      maxBytes: this.#options.maxUnreadBytes ?? MAX_UNREAD_BYTES,
      maxAgeMs: MAX_UNREAD_MS,
    });
    // A call that fails is ended by its handler's rejection; answers that wait behind a slow reader are dropped with it.
    await this.#answer(call, {
      started: (started) => writer.write(encodeEvent({ $case: 'started', value: started })),
      delta: (delta) => writer.write(encodedDelta(delta)),
      finished: (finished) => {
        writer.write(encodeEvent({ $case: 'finished', value: finished }));
        writer.end();
      },
    });
  }

  async #generateOnce(call: ServerUnaryCall<GenerateRequest, GenerateResult>): Promise<GenerateResult> {
    const result = collectResult();
    await this.#answer(call, result.sink);
    return result.value();
  }

  #countTokens(call: ServerUnaryCall<CountTokensRequest, CountTokensResponse>): Promise<CountTokensResponse> {
    return this.#withModel(call, async (model) => {
      const limits = this.#options.limits(model);
      const request: CountTokensRequest | LargeRequest = call.request;
      const { model: name, messages } =
        request instanceof LargeRequest ? await this.#decode(request, 'CountTokensRequest') : request;
      checkModel(name, limits.servedName);
      const prompt =
        (isHeavy(messages) ? await prepare(messages, model, limits, this.#options.background) : undefined) ??
        promptOf(model, checkMessages(messages, limits));
      return {
        promptTokens: prompt.tokenIds.length,
        imageTokens: prompt.images.reduce((sum, { length }) => sum + length, 0),
      };
    });
  }

  #putImage(call: ServerReadableStream<PutImageRequest, PutImageResponse>): Promise<PutImageResponse> {
    return this.#withModel(call, (model, caller) => {
      const { pictures, limits, uploads } = this.#options;
      if (this.#draining) throw draining();
      return receivePicture(call, caller, pictures, limits(model).maxImageBytes, uploads);
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

  async #decode<Type extends keyof RequestTypes>(
    { pieces }: LargeRequest,
    type: Type,
  ): Promise<RequestTypes[Type]> {
    try {
      return await this.#options.background.decode(type, pieces);
    } catch (error) {
      if (error instanceof MalformedRequest) throw malformedMessage(type, error.message);
      throw error;
    }
  }

  async #withModel<T>(
    call: ServerCall,
    use: (model: ServedModel, caller: Caller) => T | Promise<T>,
  ): Promise<T> {
    const caller = new Caller(call, this.#options.now);
    try {
      return await use(await this.#options.gate.wait(caller), caller);
    } finally {
      caller.answered();
    }
  }

  /** Runs one generation call and counts how it ended; rejects with the RpcError that ends it. */
  async #answer(call: GenerationCall, sink: AnswerSink): Promise<void> {
    const startedAt = this.#options.now();
    const caller = new Caller(call, this.#options.now);
    let code: string = status[status.OK];
    try {
      if (this.#draining) throw draining();
      const request =
        call.request instanceof LargeRequest
          ? await this.#decode(call.request, 'GenerateRequest')
          : call.request;
      await this.#route(request, caller, sink, startedAt);
    } catch (error) {
      code = status[error instanceof RpcError ? error.code : status.INTERNAL] ?? 'UNKNOWN';
      throw error;
    } finally {
      caller.answered();
      this.#options.metrics.requests.inc({ code });
    }
  }

  /** Resolves when the sink has been told everything. */
  async #route(request: GenerateRequest, caller: Caller, sink: AnswerSink, startedAt: number): Promise<void> {
    const { dispatcher, gate, pictures, metrics, now } = this.#options;
    if (caller.gone !== undefined) throw caller.gone;
    const model = gate.model ?? (await gate.wait(caller, bytesOf(request)));
    const { messages } = request;
    const prepared = isHeavy(messages)
      ? await prepare(messages, model, this.#options.limits(model), this.#options.background)
      : undefined;
    if (caller.gone !== undefined) throw caller.gone;
    const releases: (() => void)[] = [];
    const releasePictures = (): void => releases.splice(0).forEach((release) => release());
    const admitTo = (target: ServedModel, prompt?: Prompt): Admitted => {
      const limits = this.#options.limits(target);
      const admitted = admit(request, caller.deadlineAt, target, limits, pictures, prompt);
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
    const admitted = admitTo(model, prepared);
    try {
      await new Promise<void>((resolve, reject) => {
        const listener = new Answer({
          requestId: request.requestId === '' ? randomUUID() : request.requestId,
          returnPromptTokenIds: request.output?.promptTokenIds ?? false,
          model: answerOf(model, admitted),
          sink,
          onEnd: (error) => {
            // Before the stream closes, which would pass for the caller's leaving.
            caller.answered();
            if (error === undefined) resolve();
            else reject(error);
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
        caller.onGone((why) => {
          dispatcher.cancel(routed);
          reject(why);
        });
        dispatcher.submit(routed);
      });
    } finally {
      releasePictures();
    }
  }
}

function draining(): RpcError {
  return new RpcError(status.UNAVAILABLE, 'DRAINING', 'this router is shutting down', { retryAfterMs: 0 });
}
