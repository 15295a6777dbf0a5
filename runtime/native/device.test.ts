import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { native } from './index.ts';
import type { DeviceInfo } from './index.ts';

const ops = native();

/** What `body`, statements over `ops`, returns in a thread of its own, whose tensors are all its own. */
async function inThread(body: string): Promise<unknown> {
  const load = new URL('./load.ts', import.meta.url).href;
  const source = `
    const { parentPort } = require('node:worker_threads');
    import(${JSON.stringify(load)}).then(({ loadAddon }) => {
      const ops = loadAddon();
      const result = (() => { ${body} })();
      parentPort.postMessage(result);
    });`;
  const worker = new Worker(source, { eval: true });
  try {
    return await new Promise((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
  } finally {
    await worker.terminate();
  }
}

describe('the device of a thread', () => {
  it('is the CPU until another one is chosen', () => {
    const info: DeviceInfo = ops.deviceInfo();
    expect(info.kind).toBe('cpu');
    expect(info.name).toBe(ops.cpuInfo().model);
    expect(info.freeBytes).toBeGreaterThan(0);
    expect(info.totalBytes).toBeGreaterThan(info.freeBytes);
  });

  it('can be chosen before the first tensor only', async () => {
    const result = await inThread(`
      ops.useDevice('cpu', 0);
      const tensor = ops.allocate('float32', [2]);
      try { ops.useDevice('cpu', 0); } catch (error) { return [ops.shape(tensor), error.message]; }`);
    expect(result).toEqual([[2], 'useDevice: this thread has made tensors already']);
  });

  it('says what is wrong with a device that does not exist', async () => {
    const result = await inThread(`
      const messages = [];
      for (const [kind, index] of [['tpu', 0], ['cpu', 1], ['cuda', -1]]) {
        try { ops.useDevice(kind, index); } catch (error) { messages.push(error.message); }
      }
      return [messages, ops.deviceInfo().kind];`);
    expect(result).toEqual([
      [
        "useDevice: kind must be cpu or cuda, not 'tpu'",
        'useDevice: there is one cpu, at index 0, not 1',
        'useDevice: index must be in [0, 1024], not -1.000000',
      ],
      'cpu',
    ]);
  });

  it('stays the CPU where CUDA is missing, which the error explains', async () => {
    const result = (await inThread(`
      let message = 'no error';
      try { ops.useDevice('cuda', 1000); } catch (error) { message = error.name + ': ' + error.message; }
      return [message, ops.deviceInfo().kind, ops.shape(ops.scratch('float32', 1, 3))];`)) as unknown[];
    expect(result[0]).toMatch(
      /^DeviceError: useDevice: .*(built without CUDA: run npm run build:cuda|driver|device)/,
    );
    expect(result.slice(1)).toEqual(['cpu', [1, 3]]);
  });
});
