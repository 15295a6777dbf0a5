// Pictures are decoded in worker threads: neither the gRPC thread nor the step loop ever waits for one. A worker that dies takes its picture
// with it and no other; the next picture starts a new worker.

import { Worker } from 'node:worker_threads';
import { ImageError } from './image-error.ts';
import type { PreprocessedImage } from './preprocess.ts';
import type { ImageLimits } from './rgb-image.ts';
import type { WorkerReply, WorkerRequest } from './worker.ts';

export interface ImagePoolOptions {
  /** Side of the model's square input in pixels. */
  readonly size: number;
  readonly limits: ImageLimits;
  /** Threads, each of which may hold one decoded picture; started when first needed. */
  readonly workers: number;
  /** Pictures that may wait for a thread; further ones are refused as overloaded. */
  readonly maxQueue: number;
  /** How a thread is made; the default runs worker.ts. */
  readonly createWorker?: () => Worker;
}

interface Job {
  readonly bytes: Uint8Array;
  readonly resolve: (image: PreprocessedImage) => void;
  readonly reject: (error: Error) => void;
}

export class ImagePool {
  readonly #options: ImagePoolOptions;
  readonly #createWorker: () => Worker;
  readonly #queue: Job[] = [];
  readonly #idle: Worker[] = [];
  readonly #busy = new Map<Worker, Job>();
  #closed = false;

  constructor(options: ImagePoolOptions) {
    this.#options = options;
    this.#createWorker = options.createWorker ?? startWorker;
  }

  /** Pictures in work and waiting. */
  get pending(): number {
    return this.#busy.size + this.#queue.length;
  }

  /** Decodes and resizes a picture file; bytes stay the caller's. Rejects with ImageError. */
  preprocess(bytes: Uint8Array): Promise<PreprocessedImage> {
    const { limits, maxQueue, workers } = this.#options;
    if (this.#closed) return Promise.reject(new ImageError('worker_failed', 'the image pool is closed'));
    if (bytes.byteLength > limits.maxBytes)
      return Promise.reject(
        new ImageError(
          'too_large',
          `the picture is ${bytes.byteLength} bytes; at most ${limits.maxBytes} are allowed`,
        ),
      );
    if (this.#busy.size >= workers && this.#queue.length >= maxQueue)
      return Promise.reject(
        new ImageError(
          'overloaded',
          `${this.pending} pictures are being decoded or waiting; try again later`,
        ),
      );
    return new Promise((resolve, reject) => {
      this.#queue.push({ bytes, resolve, reject });
      this.#startNext();
    });
  }

  /** Ends the threads; what is not done is rejected. */
  async close(): Promise<void> {
    this.#closed = true;
    const workers = [...this.#idle.splice(0), ...this.#busy.keys()];
    const jobs = [...this.#busy.values(), ...this.#queue.splice(0)];
    this.#busy.clear();
    for (const job of jobs) job.reject(new ImageError('worker_failed', 'the image pool is closed'));
    await Promise.all(workers.map((worker) => worker.terminate()));
  }

  #startNext(): void {
    while (this.#queue.length > 0 && this.#busy.size < this.#options.workers) {
      const job = this.#queue.shift()!;
      let worker: Worker;
      try {
        worker = this.#idle.pop() ?? this.#addWorker();
      } catch (cause) {
        job.reject(new ImageError('worker_failed', 'an image worker could not be started', { cause }));
        continue;
      }
      this.#busy.set(worker, job);
      worker.ref();
      // A copy goes to the worker: the bytes may be part of a larger buffer that others use.
      const bytes = new Uint8Array(job.bytes);
      const { size, limits } = this.#options;
      const request: WorkerRequest = { bytes, size, limits };
      worker.postMessage(request, [bytes.buffer]);
    }
  }

  #addWorker(): Worker {
    const worker = this.#createWorker();
    let cause: unknown;
    worker.on('message', (reply: WorkerReply) => {
      const job = this.#busy.get(worker);
      if (job === undefined) return;
      this.#busy.delete(worker);
      this.#idle.push(worker);
      // An idle worker does not keep the process alive.
      worker.unref();
      if ('image' in reply) job.resolve(reply.image);
      else job.reject(new ImageError(reply.code, reply.message));
      this.#startNext();
    });
    // 'exit' always follows.
    worker.on('error', (error) => (cause = error));
    worker.on('exit', (exitCode) => {
      const job = this.#busy.get(worker);
      this.#busy.delete(worker);
      const idleAt = this.#idle.indexOf(worker);
      if (idleAt >= 0) this.#idle.splice(idleAt, 1);
      job?.reject(
        new ImageError('worker_failed', `the image worker ended with exit code ${exitCode} on this picture`, {
          cause,
        }),
      );
      if (!this.#closed) this.#startNext();
    });
    return worker;
  }
}

function startWorker(): Worker {
  // The worker lies beside this file, as TypeScript or compiled.
  const extension = import.meta.url.slice(import.meta.url.lastIndexOf('.'));
  return new Worker(new URL(`./worker${extension}`, import.meta.url));
}
