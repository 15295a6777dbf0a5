// A worker of the image pool: one picture at a time from message to message.

import { parentPort } from 'node:worker_threads';
import { native } from '../native/index.ts';
import { ImageError } from './image-error.ts';
import type { ImageErrorCode } from './image-error.ts';
import { preprocessImage } from './preprocess.ts';
import type { PreprocessedImage } from './preprocess.ts';
import type { ImageLimits } from './rgb-image.ts';

export interface WorkerRequest {
  readonly bytes: Uint8Array;
  readonly size: number;
  readonly limits: ImageLimits;
}

export type WorkerReply =
  { readonly image: PreprocessedImage } | { readonly code: ImageErrorCode; readonly message: string };

const port = parentPort;
if (port === null) throw new Error('the image worker runs as a worker thread of the image pool');

port.on('message', (request: WorkerRequest) => {
  void answer(request);
});

async function answer(request: WorkerRequest): Promise<void> {
  const reply = await preprocess(request);
  port!.postMessage(reply, 'image' in reply ? [reply.image.pixels.buffer as ArrayBuffer] : []);
}

async function preprocess({ bytes, size, limits }: WorkerRequest): Promise<WorkerReply> {
  try {
    const { pixels, width, height } = await preprocessImage(bytes, size, limits, native());
    // Copied: buffers that native code made cannot be handed to another thread.
    return { image: { pixels: new Uint8Array(pixels), width, height } };
  } catch (error) {
    if (error instanceof ImageError) return { code: error.code, message: error.message };
    return {
      code: 'worker_failed',
      message: `preprocessing the picture failed: ${(error as Error).message}`,
    };
  }
}
