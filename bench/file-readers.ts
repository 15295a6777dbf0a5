// Threads that read a file, each its share from one end to the other into memory that it has already: the least that reading can cost.
import { once } from 'node:events';
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';

const PIECE_BYTES = 8 << 20;

interface Share {
  readonly index: number;
  readonly threads: number;
}

let memory = Buffer.alloc(0);

function readShare(file: string, { index, threads }: Share): void {
  const descriptor = openSync(file, 'r');
  const bytes = Math.ceil(statSync(file).size / threads);
  if (memory.length < bytes) memory = Buffer.alloc(bytes, 1); // touched before the clock starts, by a first call
  for (let done = 0; done < bytes;) {
    const count = readSync(
      descriptor,
      memory,
      done,
      Math.min(PIECE_BYTES, bytes - done),
      index * bytes + done,
    );
    if (count === 0) break;
    done += count;
  }
  closeSync(descriptor);
}

/** Worker threads that wait for files to read. */
export class FileReaders {
  readonly #workers: readonly Worker[];

  constructor(threads: number) {
    this.#workers = Array.from(
      { length: threads },
      (_, index) => new Worker(new URL(import.meta.url), { workerData: { index, threads } satisfies Share }),
    );
  }

  async bytesPerSecond(file: string): Promise<number> {
    const begin = performance.now();
    await Promise.all(
      this.#workers.map((worker) => {
        worker.postMessage(file);
        return once(worker, 'message');
      }),
    );
    return (statSync(file).size * 1000) / (performance.now() - begin);
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}

if (!isMainThread) {
  parentPort?.on('message', (file: string) => {
    readShare(file, workerData as Share);
    parentPort?.postMessage('done');
  });
}
