import { Worker } from 'node:worker_threads';
import { once } from 'node:events';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { native } from '../../../runtime/native/index.ts';

const index = JSON.stringify(join(import.meta.dirname, '../../../runtime/native/index.ts'));

it('gives each worker thread its own tensors, arena and group', async () => {
  const script = `
    import { parentPort, workerData } from 'node:worker_threads';
    import { native } from ${index};
    const ops = native();
    ops.setThreads(1);
    ops.createCollective(0, 2, '127.0.0.1', 1000);
    const x = ops.scratch('float32', 8, 64);
    ops.write(x, 0, new Uint8Array(Float32Array.from({ length: 512 }, () => workerData).buffer));
    for (let i = 0; i < 200; i++) {
      const mark = ops.mark();
      const weight = ops.scratch('float32', 64, 64);
      const result = ops.linear(x, weight, null, 'float32');
      ops.addScaled(x, result, null);
      ops.release(mark);
    }
    parentPort.postMessage({ memory: ops.memoryBytes(), sum: ops.readFloat32(x).reduce((a, b) => a + b, 0) });
  `;
  const before = native().memoryBytes();
  const workers = [1, 2, 3].map(
    (value) => new Worker(script, { eval: true, workerData: value, execArgv: ['--input-type=module'] }),
  );
  const answers = await Promise.all(
    workers.map(async (worker) => {
      const exited = once(worker, 'exit');
      const [answer] = (await once(worker, 'message')) as [{ memory: { arenaUsed: number }; sum: number }];
      expect(await exited).toEqual([0]);
      return answer;
    }),
  );
  expect(answers.map(({ sum }) => sum)).toEqual([512, 1024, 1536]);
  for (const { memory } of answers) expect(memory.arenaUsed).toBe(8 * 64 * 4);
  expect(native().memoryBytes()).toEqual(before);
});
