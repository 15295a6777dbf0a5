// internvl.engine.v1.Engine: what routers call on rank 0.

import { status } from '@grpc/grpc-js';
import type { ServerWritableStream } from '@grpc/grpc-js';
import type {
  DrainRequest,
  DrainResponse,
  EngineServer,
  GetTokenizerRequest,
  TokenizerChunk,
} from '../../gen/proto/internvl/engine/v1/engine.ts';
import { answer } from '../../rpc/guard.ts';
import type { Logger } from '../../rpc/log.ts';
import { RpcError, toServiceError } from '../../rpc/status.ts';
import { StreamWriter } from '../../rpc/writer.ts';
import { debugGenerate } from './debug-generate.ts';
import { Session } from './session.ts';
import type { SessionHub } from './session-hub.ts';

/** Bytes of a tokenizer file in one message: small enough not to hold up other streams. */
const CHUNK_BYTES = 256 << 10;

/** The service over one replica; until `hub` has one, every call ends with UNAVAILABLE. */
export function engineService(current: () => SessionHub | undefined, logger: Logger): EngineServer {
  const ready = (): SessionHub => {
    const hub = current();
    if (hub) return hub;
    throw new RpcError(status.UNAVAILABLE, 'LOADING', 'the replica is loading its weights', {
      retryAfterMs: 1000,
    });
  };
  return {
    session: (call) => {
      const hub = ready();
      hub.checkOpen();
      // The stream's own events keep it alive and end it.
      void new Session(call, hub, logger);
    },
    putImage: answer((call) => ready().pictures.put(call)),
    getInfo: answer(() => ready().replica.wireInfo),
    getTokenizer: (call) => startSending(call, ready().replica.routerFiles),
    drain: answer((call: { request: DrainRequest }): DrainResponse => {
      const hub = ready();
      hub.setDraining(!call.request.undo);
      const { running, waiting } = hub.dispatcher.engine.load();
      return { running, waiting: waiting + hub.parking.numParked };
    }),
    generate: (call) => debugGenerate(call, ready()),
  };
}

function startSending(
  call: ServerWritableStream<GetTokenizerRequest, TokenizerChunk>,
  files: ReadonlyMap<string, Buffer>,
): void {
  sendTokenizer(call, files).catch((err: unknown) => call.emit('error', toServiceError(err)));
}

async function sendTokenizer(
  call: ServerWritableStream<GetTokenizerRequest, TokenizerChunk>,
  files: ReadonlyMap<string, Buffer>,
): Promise<void> {
  const writer = new StreamWriter<TokenizerChunk>(call, {
    byteLength: (message) => message.chunk.length,
  });
  for (const [fileName, bytes] of files) {
    for (let at = 0; at === 0 || at < bytes.length; at += CHUNK_BYTES) {
      writer.write({ fileName, chunk: bytes.subarray(at, at + CHUNK_BYTES) });
      if (!(await writer.ready())) return;
    }
  }
  writer.end();
}
