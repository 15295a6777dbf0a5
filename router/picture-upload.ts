// PutImage: reads one file in pieces. No turn of the event loop has to do with more than one of them, so that no stream waits for a picture.

import { status, type ServerReadableStream } from '@grpc/grpc-js';
import { RpcError } from '../rpc/status.ts';
import type { PutImageRequest, PutImageResponse } from '../gen/proto/internvl/v1/inference.ts';
import type { Caller } from './caller.ts';
import { IncomingPicture } from './incoming-picture.ts';
import type { PictureStore } from './picture-store.ts';

export interface UploadTimes {
  /** Whoever takes longer to send a file gives its room to others. */
  readonly receiveMs: number;
  /** A file waits so long for the request that names it. */
  readonly heldMs: number;
}

export const UPLOAD_TIMES: UploadTimes = { receiveMs: 60_000, heldMs: 30_000 };

/** Takes a file in and keeps it in the store. Throws RpcError, and then nothing of it is held. */
export async function receivePicture(
  call: ServerReadableStream<PutImageRequest, PutImageResponse>,
  caller: Caller,
  store: PictureStore,
  maxBytes: number,
  { receiveMs, heldMs }: UploadTimes,
): Promise<PutImageResponse> {
  const incoming = new IncomingPicture(store, maxBytes);
  try {
    await readAll(call, caller, incoming, receiveMs);
    const { hash, release } = incoming.complete();
    setTimeout(release, heldMs).unref();
    return { hash, heldMs };
  } catch (error) {
    incoming.abandon();
    throw error;
  }
}

/** Resolves when everything has come. */
async function readAll(
  call: ServerReadableStream<PutImageRequest, PutImageResponse>,
  caller: Caller,
  incoming: IncomingPicture,
  receiveMs: number,
): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      if (caller.gone !== undefined) reject(caller.gone);
      caller.onGone(reject);
      timer = setTimeout(() => reject(tooSlow(receiveMs)), receiveMs);
      call.on('end', resolve);
      call.on('data', (message: PutImageRequest) => {
        try {
          incoming.add(message);
        } catch (error) {
          reject(error);
        }
      });
    });
  } finally {
    clearTimeout(timer);
    call.removeAllListeners('data');
    call.pause();
  }
}

function tooSlow(receiveMs: number): RpcError {
  return new RpcError(
    status.DEADLINE_EXCEEDED,
    'UPLOAD_TOO_SLOW',
    `the file was not complete after ${receiveMs / 1000} s`,
  );
}
