// What a client gets for one request: the replica's tokens made into text, cut at stop strings, measured by the router's clock.

import { FinishReason, type TokenLogprob } from '../gen/proto/internvl/v1/generation.ts';
import type { Delta, Finished, Started, Timings } from '../gen/proto/internvl/v1/inference.ts';
import type { Done } from '../gen/proto/internvl/engine/v1/engine.ts';
import type { RpcError } from '../rpc/status.ts';
import type { RouterMetrics } from './metrics.ts';
import type { AnswerText } from './output.ts';
import type { RequestListener } from './request.ts';

/** Where an answer goes: started, deltas, then finished, unless it fails. */
export interface AnswerSink {
  started(started: Started): void;
  /** It is the sink's from now on. */
  delta(delta: Delta): void;
  finished(finished: Finished): void;
}

/** What of an answer depends on the model. */
export interface AnswerModel {
  readonly promptTokenIds: readonly number[];
  readonly imageTokens: number;
  readonly text: AnswerText;
}

export interface AnswerOptions {
  readonly requestId: string;
  readonly returnPromptTokenIds: boolean;
  readonly model: AnswerModel;
  readonly sink: AnswerSink;
  /** The sink has been told everything; with an error when the answer failed. */
  readonly onEnd: (error?: RpcError) => void;
  readonly metrics: RouterMetrics;
  readonly now: () => number;
  /** When the request arrived. */
  readonly startedAt: number;
  /** When it was placed on a replica first. */
  readonly placedAt: () => number | undefined;
  /** A stop string ended the answer: the replica need not go on. */
  readonly stop: () => void;
  /** The first token is there: it will not be tried again elsewhere. */
  readonly onFirstToken: () => void;
}

/** Listens to one routed request and tells its sink. */
export class Answer implements RequestListener {
  readonly #options: AnswerOptions;
  // What each token needs is here too: one object less to fetch for it.
  readonly #sink: AnswerSink;
  readonly #metrics: RouterMetrics;
  readonly #now: () => number;
  #model: AnswerModel;
  #firstTokenAt: number | undefined;
  #lastTokenAt = 0;
  #started = false;
  #over = false;

  constructor(options: AnswerOptions) {
    this.#options = options;
    this.#sink = options.sink;
    this.#metrics = options.metrics;
    this.#now = options.now;
    this.#model = options.model;
  }

  /** Another model answers; before the first token only. */
  retarget(model: AnswerModel): void {
    this.#model = model;
  }

  onAccepted(replica: string): void {
    if (this.#started) return;
    this.#started = true;
    const { requestId, returnPromptTokenIds, sink } = this.#options;
    const { promptTokenIds, imageTokens } = this.#model;
    sink.started({
      requestId,
      promptTokens: promptTokenIds.length,
      imageTokens,
      replica,
      promptTokenIds: returnPromptTokenIds ? [...promptTokenIds] : [],
    });
  }

  onTokens(tokenIds: readonly number[], logprobs: readonly TokenLogprob[]): void {
    if (this.#over) return;
    this.#measure();
    const piece = this.#model.text.push(tokenIds);
    this.#metrics.delivered(piece.tokens);
    this.#sink.delta({
      text: piece.text,
      tokenIds: firstOf(tokenIds, piece.tokens),
      logprobs: firstOf(logprobs, piece.tokens),
    });
    if (piece.matchedStop === undefined || this.#over) return;
    this.#options.stop();
    this.#finish(FinishReason.STOP, piece.matchedStop, undefined, 0);
  }

  onFinished(done: Done): void {
    if (this.#over) return;
    const piece = this.#model.text.finish();
    if (piece.text !== '') this.#sink.delta({ text: piece.text, tokenIds: [], logprobs: [] });
    const reason = piece.matchedStop === undefined ? done.finishReason : FinishReason.STOP;
    this.#finish(reason, piece.matchedStop ?? '', done.matchedStopTokenId, done.cachedTokens);
  }

  onFailed(error: RpcError): void {
    if (this.#over) return;
    this.#over = true;
    this.#options.onEnd(error);
  }

  #measure(): void {
    const at = this.#now();
    if (this.#firstTokenAt === undefined) {
      const { startedAt, onFirstToken } = this.#options;
      this.#firstTokenAt = at;
      this.#metrics.firstTokenSeconds.observe((at - startedAt) / 1000);
      onFirstToken();
    } else {
      this.#metrics.interTokenSeconds.observe((at - this.#lastTokenAt) / 1000);
    }
    this.#lastTokenAt = at;
  }

  #finish(
    finishReason: FinishReason,
    matchedStop: string,
    matchedStopTokenId: number | undefined,
    cachedTokens: number,
  ): void {
    this.#over = true;
    const { promptTokenIds, imageTokens, text } = this.#model;
    this.#sink.finished({
      finishReason,
      matchedStop,
      ...(matchedStopTokenId === undefined ? {} : { matchedStopTokenId }),
      usage: {
        promptTokens: promptTokenIds.length,
        imageTokens,
        cachedTokens,
        completionTokens: text.tokens,
      },
      timings: this.#timings(),
    });
    this.#options.onEnd();
  }

  #timings(): Timings {
    const { now, startedAt, placedAt } = this.#options;
    const end = now();
    return {
      queueMs: (placedAt() ?? end) - startedAt,
      timeToFirstTokenMs: (this.#firstTokenAt ?? end) - startedAt,
      totalMs: end - startedAt,
    };
  }
}

/** The first `count` items; the list itself when it has no more. */
function firstOf<T>(items: readonly T[], count: number): T[] {
  return items.length <= count ? (items as T[]) : items.slice(0, count);
}
