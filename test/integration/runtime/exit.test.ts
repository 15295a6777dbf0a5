import { spawn } from 'node:child_process';
import { describe, expect, it } from 'vitest';

const EXIT = new URL('../../../runtime/exit.ts', import.meta.url).href;

/** A process whose worker thread is inside a native call that does not return, and which then calls exitNow. */
const STUCK = `
  import { Worker } from 'node:worker_threads';
  import { exitNow } from '${EXIT}';
  const inside = new Int32Array(new SharedArrayBuffer(4));
  const thread =
    "import { workerData } from 'node:worker_threads'; import { execFileSync } from 'node:child_process';" +
    "Atomics.store(workerData, 0, 1); Atomics.notify(workerData, 0); execFileSync('cat', { stdio: ['inherit', 'ignore', 'ignore'] })";
  new Worker(new URL('data:text/javascript,' + encodeURIComponent(thread)), { workerData: inside });
  await Atomics.waitAsync(inside, 0, 0).value;
  setTimeout(() => exitNow(3, false), 100);
`;

describe('exitNow', () => {
  it('ends the process with its code although a thread is stuck in native code', async () => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', STUCK], {
      stdio: ['pipe', 'inherit', 'inherit'],
    });
    const code = await new Promise<number | null>((resolve) => child.on('exit', resolve));
    child.stdin.destroy(); // ends what the thread was waiting for
    expect(code).toBe(3);
  });
});
