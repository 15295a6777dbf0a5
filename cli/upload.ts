// Large pictures go to a server in pieces before the request that names them: in one message they would hold up everybody else's answers.

import { Readable } from 'node:stream';
import type { CallOptions } from '@grpc/grpc-js';
import type {
  GenerateRequest,
  InferenceClient,
  Message,
  Part,
  PutImageRequest,
} from '../gen/proto/internvl/v1/inference.ts';

/** What a server takes in one message of PutImage. */
const CHUNK_BYTES = 256 * 1024;
/** Larger files are worth a call of their own. */
const LARGE_FILE = 512 * 1024;

/** The request with its large pictures uploaded, and named by their hashes; the request itself where it has none. Throws ServiceError. */
export async function uploadLarge(
  client: InferenceClient,
  request: GenerateRequest,
  options: Partial<CallOptions>,
  signal: AbortSignal,
): Promise<GenerateRequest> {
  if (!request.messages.some(({ parts }) => parts.some((part) => largeFile(part) !== undefined)))
    return request;
  const uploaded = async (part: Part): Promise<Part> => {
    const file = largeFile(part);
    if (file === undefined) return part;
    const hash = await uploadPicture(client, file, options, signal);
    return { part: { $case: 'image', value: { source: { $case: 'hash', value: hash } } } };
  };
  const messages: Message[] = [];
  for (const message of request.messages)
    messages.push({ ...message, parts: await Promise.all(message.parts.map(uploaded)) });
  return { ...request, messages };
}

function largeFile({ part }: Part): Buffer | undefined {
  const source = part?.$case === 'image' ? part.value.source : undefined;
  return source?.$case === 'data' && source.value.length > LARGE_FILE ? source.value : undefined;
}

/** Sends a picture's file; returns the hash that names it. Throws ServiceError. */
export async function uploadPicture(
  client: InferenceClient,
  file: Uint8Array,
  options: Partial<CallOptions> = {},
  signal?: AbortSignal,
): Promise<string> {
  let cancel: (() => void) | undefined;
  try {
    return await new Promise<string>((resolve, reject) => {
      const call = client.putImage(options, (error, response) => {
        if (error === null) resolve(response.hash);
        else reject(error);
      });
      cancel = () => call.cancel();
      signal?.addEventListener('abort', cancel);
      if (signal?.aborted === true) cancel();
      // What ends the call comes through the callback; an unheard 'error' event would end the process.
      call.on('error', () => undefined);
      Readable.from(messagesOf(file))
        .on('error', reject)
        .pipe(call as unknown as NodeJS.WritableStream);
    });
  } finally {
    if (cancel !== undefined) signal?.removeEventListener('abort', cancel);
  }
}

function* messagesOf(file: Uint8Array): Generator<PutImageRequest> {
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  // An empty file is the server's to refuse.
  for (let offset = 0; offset === 0 || offset < bytes.length; offset += CHUNK_BYTES)
    yield {
      sizeBytes: offset === 0 ? bytes.length : 0,
      chunk: bytes.subarray(offset, offset + CHUNK_BYTES),
    };
}
