// A server of the public API that answers as the test says: what the command line does with an answer can be tested apart from a model.
import { createHash } from 'node:crypto';
import {
  Server,
  ServerCredentials,
  status,
  type sendUnaryData,
  type ServerReadableStream,
  type ServerWritableStream,
} from '@grpc/grpc-js';
import { FinishReason } from '../../../gen/proto/internvl/v1/generation.ts';
import {
  InferenceService,
  ReplicaState,
  type GenerateEvent,
  type GenerateRequest,
  type Model,
  type PutImageRequest,
  type PutImageResponse,
} from '../../../gen/proto/internvl/v1/inference.ts';
import { type RpcError, toServiceError } from '../../../rpc/status.ts';

export interface ScriptedServer {
  readonly address: string;
  readonly requests: readonly GenerateRequest[];
  /** The files that were uploaded. */
  readonly files: readonly Buffer[];
  /** How many calls their client cancelled. */
  cancelled(): number;
  close(): void;
}

/** How to answer one request: words, an error, or words without an end. */
export type Script = (request: GenerateRequest) => {
  readonly words: readonly string[];
  readonly error?: RpcError;
  readonly endless?: boolean;
  readonly reason?: FinishReason;
};

const MODEL: Model = {
  name: 'scripted',
  maxModelLength: 100,
  vocabSize: 10,
  imageTokens: 4,
  maxImages: 4,
  dtype: 'float32',
  tensorParallelSize: 1,
  replicas: [{ name: 'r', state: ReplicaState.READY, message: '', running: 0, waiting: 0, kvCacheUsage: 0 }],
};

function unimplemented(_call: unknown, done: sendUnaryData<never>): void {
  done({ code: status.UNIMPLEMENTED });
}

export async function startScriptedServer(script: Script): Promise<ScriptedServer> {
  const requests: GenerateRequest[] = [];
  const files: Buffer[] = [];
  let cancelled = 0;
  const server = new Server();
  server.addService(InferenceService, {
    generate(call: ServerWritableStream<GenerateRequest, GenerateEvent>) {
      requests.push(call.request);
      call.on('cancelled', () => cancelled++);
      const { words, error, endless, reason } = script(call.request);
      const promptTokenIds = call.request.output?.promptTokenIds === true ? [1, 2, 3] : [];
      const started = { requestId: 'r', promptTokens: 3, imageTokens: 0, replica: 'r', promptTokenIds };
      if (words.length > 0) call.write({ event: { $case: 'started', value: started } });
      for (const [index, text] of words.entries()) {
        const top = [{ tokenId: index, logprob: -0.25 }];
        const logprobs =
          call.request.output?.logprobs === undefined ? [] : [{ tokenId: index, logprob: -0.25, top }];
        call.write({ event: { $case: 'delta', value: { text, tokenIds: [index], logprobs } } });
      }
      if (error !== undefined) call.emit('error', toServiceError(error));
      if (error !== undefined || endless === true) return;
      const usage = { promptTokens: 3, imageTokens: 0, cachedTokens: 0, completionTokens: words.length };
      const timings = { queueMs: 0.5, timeToFirstTokenMs: 1.5, totalMs: 2.5 };
      const finishReason = reason ?? FinishReason.STOP;
      const value = { finishReason, matchedStop: '', matchedStopTokenId: undefined, usage, timings };
      call.write({ event: { $case: 'finished', value } });
      call.end();
    },
    putImage(
      call: ServerReadableStream<PutImageRequest, PutImageResponse>,
      done: sendUnaryData<PutImageResponse>,
    ) {
      const chunks: Buffer[] = [];
      call.on('data', ({ chunk }: PutImageRequest) => chunks.push(chunk));
      call.on('end', () => {
        const file = Buffer.concat(chunks);
        files.push(file);
        done(null, { hash: createHash('sha256').update(file).digest('hex'), heldMs: 1000 });
      });
    },
    generateOnce: unimplemented,
    countTokens: unimplemented,
    listModels: (_call: unknown, done: (error: null, value: unknown) => void) =>
      done(null, { models: [MODEL] }),
    getModel: (_call: unknown, done: (error: null, value: Model) => void) => done(null, MODEL),
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) resolve(bound);
      else reject(error);
    });
  });
  return {
    address: `127.0.0.1:${port}`,
    requests,
    files,
    cancelled: () => cancelled,
    close: () => server.forceShutdown(),
  };
}
