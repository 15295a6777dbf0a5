// One generation as it comes in over the wire, gathered into what a script reads.
import { status, type CallOptions, type ServiceError } from '@grpc/grpc-js';
import { FinishReason, type TokenLogprob } from '../gen/proto/internvl/v1/generation.ts';
import type { GenerateEvent, GenerateRequest, InferenceClient } from '../gen/proto/internvl/v1/inference.ts';
import { parseDetails } from '../rpc/status.ts';
import { CliError } from './cli-error.ts';
import { fromServiceError } from './client.ts';
import { EXIT } from './exit-codes.ts';
import { uploadLarge } from './upload.ts';

/** The JSON of `generate --json`. */
export interface Answer {
  readonly text: string;
  readonly tokenIds: readonly number[];
  readonly promptTokenIds: readonly number[];
  readonly finishReason: 'stop' | 'length' | 'abort';
  readonly usage: {
    readonly promptTokens: number;
    readonly imageTokens: number;
    readonly cachedTokens: number;
    readonly completionTokens: number;
  };
  readonly logprobs: readonly TokenLogprob[];
  readonly timings: {
    readonly queueMs: number;
    readonly timeToFirstTokenMs: number;
    readonly totalMs: number;
  };
}

const REASONS: Readonly<Record<number, Answer['finishReason']>> = {
  [FinishReason.STOP]: 'stop',
  [FinishReason.LENGTH]: 'length',
  [FinishReason.ABORT]: 'abort',
};

/** Adds up a generation's events. */
export class AnswerBuilder {
  #text = '';
  readonly #tokenIds: number[] = [];
  readonly #logprobs: TokenLogprob[] = [];
  #promptTokenIds: readonly number[] = [];
  #finished: Pick<Answer, 'finishReason' | 'usage' | 'timings'> | undefined;

  /** Takes an event and returns the text it adds. */
  add({ event }: GenerateEvent): string {
    switch (event?.$case) {
      case 'started':
        this.#promptTokenIds = event.value.promptTokenIds;
        break;
      case 'delta':
        this.#text += event.value.text;
        for (const id of event.value.tokenIds) this.#tokenIds.push(id);
        for (const logprob of event.value.logprobs) this.#logprobs.push(logprob);
        return event.value.text;
      case 'finished': {
        const { finishReason, usage, timings } = event.value;
        this.#finished = {
          finishReason: REASONS[finishReason] ?? 'abort',
          usage: {
            promptTokens: usage?.promptTokens ?? 0,
            imageTokens: usage?.imageTokens ?? 0,
            cachedTokens: usage?.cachedTokens ?? 0,
            completionTokens: usage?.completionTokens ?? 0,
          },
          timings: {
            queueMs: timings?.queueMs ?? 0,
            timeToFirstTokenMs: timings?.timeToFirstTokenMs ?? 0,
            totalMs: timings?.totalMs ?? 0,
          },
        };
        break;
      }
      case undefined:
        break;
    }
    return '';
  }

  /** The text so far. */
  get text(): string {
    return this.#text;
  }

  /** The whole; undefined when no Finished has come. */
  build(): Answer | undefined {
    if (this.#finished === undefined) return undefined;
    return {
      text: this.#text,
      tokenIds: this.#tokenIds,
      promptTokenIds: this.#promptTokenIds,
      finishReason: this.#finished.finishReason,
      usage: this.#finished.usage,
      logprobs: this.#logprobs,
      timings: this.#finished.timings,
    };
  }
}

/** A generation that was cancelled by its own caller; `text` is what had come. */
export class Cancelled extends CliError {
  readonly text: string;

  constructor(text: string) {
    super('cancelled', { exitCode: EXIT.interrupted, code: 'CANCELLED' });
    this.text = text;
  }
}

export interface AskOptions {
  readonly signal: AbortSignal;
  readonly deadlineMs?: number | undefined;
  /** Called with each piece of the answer's text. */
  readonly onText: (text: string) => void;
}

/** Runs one generation; throws CliError, or Cancelled when the signal ended it. */
export async function ask(
  client: InferenceClient,
  request: GenerateRequest,
  options: AskOptions,
): Promise<Answer> {
  const { signal, deadlineMs } = options;
  const deadline = deadlineMs === undefined ? {} : { deadline: Date.now() + deadlineMs };
  const builder = new AnswerBuilder();
  const run = (sent: GenerateRequest): Promise<void> => generate(client, sent, deadline, builder, options);
  try {
    const sent = await uploadLarge(client, request, deadline, signal);
    await run(sent).catch((error: unknown) => {
      // Behind a balancer that spreads calls, another server than the one that has the picture was asked.
      if (sent === request || parseDetails(error as ServiceError).reason !== 'IMAGE_NOT_FOUND') throw error;
      return run(request);
    });
  } catch (error) {
    const serviceError = error as ServiceError;
    if (signal.aborted && serviceError.code === status.CANCELLED) throw new Cancelled(builder.text);
    throw typeof serviceError.code === 'number' ? fromServiceError(serviceError) : error;
  }
  const answer = builder.build();
  if (answer === undefined)
    throw new CliError('the server ended the answer without saying why', {
      exitCode: EXIT.failed,
      code: 'INTERNAL',
    });
  return answer;
}

async function generate(
  client: InferenceClient,
  request: GenerateRequest,
  callOptions: Partial<CallOptions>,
  builder: AnswerBuilder,
  { signal, onText }: AskOptions,
): Promise<void> {
  const call = client.generate(request, callOptions);
  const cancel = () => call.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  try {
    if (signal.aborted) cancel();
    for await (const event of call) {
      const text = builder.add(event as GenerateEvent);
      if (text !== '') onText(text);
    }
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}
