// Engine.Generate: one generation from token ids on a call of its own, for looking at a replica without a router.

import { status } from '@grpc/grpc-js';
import type { ServerWritableStream } from '@grpc/grpc-js';
import { GenerateResponse } from '../../gen/proto/internvl/engine/v1/engine.ts';
import type { GenerateRequest } from '../../gen/proto/internvl/engine/v1/engine.ts';
import { RpcError } from '../../rpc/status.ts';
import { StreamWriter } from '../../rpc/writer.ts';
import type { DispatcherClient } from './dispatcher.ts';
import type { SessionHub } from './session-hub.ts';
import { isBadRequest, readSubmit, toDone, toWireLogprobs } from './wire.ts';

const HANDLE = 1;

/** Runs the request; throws RpcError when it cannot be served. */
export function debugGenerate(
  call: ServerWritableStream<GenerateRequest, GenerateResponse>,
  hub: SessionHub,
): void {
  hub.checkOpen();
  const refused = hub.refusal();
  if (refused) throw refused;
  const { tokenIds, sampling, logprobs } = call.request;
  const request = readSubmit(
    {
      handle: HANDLE,
      seq: 0,
      tokenIds,
      images: [],
      sampling,
      logprobs,
      priority: 0,
      deadlineMs: 0,
      cacheSalt: '',
    },
    hub.replica,
  );
  if (isBadRequest(request)) throw new RpcError(status.INVALID_ARGUMENT, request.reason, request.message);

  const { dispatcher } = hub;
  const writer = new StreamWriter<GenerateResponse>(call, {
    byteLength: (message) => GenerateResponse.encode(message).finish().length,
  });
  const client: DispatcherClient = {
    onOutput: (output) => {
      const [finished] = output.finished;
      if (finished?.reason === 'error') {
        dispatcher.disconnect(client);
        writer.fail(
          new RpcError(status.INTERNAL, 'SEQUENCE_FAILED', finished.message ?? 'the engine gave up'),
        );
        return;
      }
      writer.write({
        tokenIds: output.tokenIds,
        logprobs: output.logprobs.flatMap(({ tokens }) => toWireLogprobs(tokens)),
        done: finished && toDone(finished),
      });
      if (!finished) return;
      dispatcher.disconnect(client);
      writer.end();
    },
    onStepEnd: () => undefined,
    onLost: (error) =>
      writer.fail(new RpcError(status.UNAVAILABLE, 'REPLICA_FAILED', `the replica failed: ${error.message}`)),
  };
  dispatcher.connect(client);
  for (const event of ['cancelled', 'close', 'error']) call.on(event, () => dispatcher.disconnect(client));
  dispatcher.submit(client, [{ ...request, images: [] }]);
}
