import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, describe, expect, it } from 'vitest';
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

describe('threads of a machine with several memory nodes', () => {
  const directory = mkdtempSync(join(tmpdir(), 'internvl-nodes-'));
  afterAll(() => rmSync(directory, { recursive: true }));
  const cpus = allowed(readFileSync('/proc/self/status', 'utf8'));

  function allowed(status: string): string {
    return /^Cpus_allowed_list:\s*(.*)$/m.exec(status)?.[1] ?? '';
  }

  /** The cores of each thread of a process that has used `threads` of them, those that may go anywhere left out. */
  function tied(nodes: readonly string[], threads: number): string[] {
    writeFileSync(join(directory, 'online'), `0-${nodes.length - 1}\n`);
    for (const [node, list] of nodes.entries()) {
      mkdirSync(join(directory, `node${node}`), { recursive: true });
      writeFileSync(join(directory, `node${node}`, 'cpulist'), `${list}\n`);
    }
    const script = `
      import { readdirSync, readFileSync } from 'node:fs';
      import { native } from ${index};
      native().setThreads(${threads});
      for (const task of readdirSync('/proc/self/task')) console.log(readFileSync('/proc/self/task/' + task + '/status', 'utf8'));
    `;
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
      env: { ...process.env, INTERNVL_NODE_DIRECTORY: directory },
      encoding: 'utf8',
    });
    return output
      .split(/^(?=Name:)/m)
      .filter((status) => status.startsWith('Name:'))
      .map(allowed)
      .filter((list) => list !== cpus)
      .toSorted();
  }

  const [first, second] = cpus.split(/[-,]/) as [string, string?];

  it.skipIf(second === undefined)('stay at one node each, as many as it has cores', () => {
    expect(tied([first, second!], 2)).toEqual([first, second!].toSorted());
    expect(tied([first, second!], 4)).toEqual([first, first, second!, second!].toSorted());
    // A node without cores of this process takes no thread.
    expect(tied([first, '1000-1003,1010', second!], 2)).toEqual([first, second!].toSorted());
  });

  it('go anywhere when there is one node, one thread, or nothing is known', () => {
    expect(tied([cpus], 2)).toEqual([]);
    expect(tied([first, second ?? '1000'], 1)).toEqual([]);
    expect(tied(['', 'x'], 2)).toEqual([]);
  });
});
