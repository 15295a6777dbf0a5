// The machine's sequential read bandwidth: what decoding at batch 1 is measured against. Every thread scans its own buffer, larger than
// any cache, for a byte that is not there; `Buffer.indexOf` of a byte is the C library's vectorised memchr.
import { availableParallelism } from 'node:os';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';

interface Job {
  readonly bytes: number;
  readonly passes: number;
  readonly start: SharedArrayBuffer;
}

function scan({ bytes, passes, start }: Job): void {
  const buffer = Buffer.alloc(bytes, 1);
  const gate = new Int32Array(start);
  buffer.indexOf(0); // touch every page before the clock starts
  Atomics.add(gate, 1, 1);
  Atomics.notify(gate, 1);
  Atomics.wait(gate, 0, 0);
  for (let pass = 0; pass < passes; pass++) {
    if (buffer.indexOf(0) !== -1) throw new Error('the scanned buffer holds a byte that was never written');
  }
  parentPort?.postMessage('done');
}

/** Bytes per second that all cores together read from memory, best of `rounds`. */
export async function readBandwidth(
  threads = availableParallelism(),
  bytes = 512 * 1024 * 1024,
  rounds = 3,
): Promise<number> {
  let best = 0;
  for (let round = 0; round < rounds; round++) {
    const passes = 3;
    const start = new SharedArrayBuffer(8);
    const gate = new Int32Array(start);
    const workers = Array.from(
      { length: threads },
      () => new Worker(new URL(import.meta.url), { workerData: { bytes, passes, start } satisfies Job }),
    );
    const finished = Promise.all(
      workers.map(
        (worker) =>
          new Promise<void>((resolve, reject) => {
            worker.once('message', () => resolve());
            worker.once('error', reject);
          }),
      ),
    );
    while (Atomics.load(gate, 1) < threads) await new Promise((resolve) => setImmediate(resolve));
    const begin = performance.now();
    Atomics.store(gate, 0, 1);
    Atomics.notify(gate, 0);
    await finished;
    const seconds = (performance.now() - begin) / 1000;
    await Promise.all(workers.map((worker) => worker.terminate()));
    best = Math.max(best, (threads * bytes * passes) / seconds);
  }
  return best;
}

if (!isMainThread) scan(workerData as Job);
