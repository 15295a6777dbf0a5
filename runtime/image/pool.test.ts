import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { readUint8Npy } from '../../test/support/npy.ts';
import { ImagePool } from './pool.ts';
import type { ImagePoolOptions } from './pool.ts';
import { DEFAULT_IMAGE_LIMITS } from './rgb-image.ts';

const IMAGES = new URL('../../test/fixtures/images/', import.meta.url);
const picture = readFileSync(new URL('p6_rgba.png', IMAGES));

/** A worker that does what the first byte says: 0 dies, 1 throws, 2 holds the job until the process-wide gate opens, else answers. */
const STAND_IN = `
  const { parentPort, workerData } = require('node:worker_threads');
  parentPort.on('message', ({ bytes }) => {
    if (bytes[0] === 0) process.exit(3);
    if (bytes[0] === 1) throw new Error('boom');
    if (bytes[0] === 2) Atomics.wait(new Int32Array(workerData), 0, 0);
    parentPort.postMessage({ image: { pixels: bytes, width: bytes[0], height: 1 } });
  });
`;
const gate = new SharedArrayBuffer(4);

let pool: ImagePool;
afterEach(() => pool.close());

function open(options: Partial<ImagePoolOptions>): ImagePool {
  pool = new ImagePool({ size: 448, limits: DEFAULT_IMAGE_LIMITS, workers: 1, maxQueue: 8, ...options });
  return pool;
}

describe('ImagePool', () => {
  it('preprocesses pictures in threads, equal to the golden pixels', async () => {
    open({ workers: 2 });
    const results = await Promise.all([picture, picture, picture].map((file) => pool.preprocess(file)));
    const { data } = readUint8Npy(new URL('pixels_448/p6_rgba.png.npy', IMAGES));
    for (const { pixels, width, height } of results) {
      expect([width, height]).toEqual([333, 517]);
      expect(Buffer.compare(pixels, data)).toBe(0);
    }
    // The caller's bytes were copied, not taken.
    expect(picture.byteLength).toBeGreaterThan(0);
  });

  it('passes on what is wrong with a picture and goes on', async () => {
    open({});
    await expect(pool.preprocess(Buffer.from('no picture'))).rejects.toMatchObject({
      code: 'unsupported_type',
      message: expect.stringContaining('is text'),
    });
    await expect(pool.preprocess(picture)).resolves.toMatchObject({ width: 333 });
  });

  it('refuses a file over the limit without copying it', async () => {
    open({ limits: { maxBytes: 10, maxPixels: 1 } });
    await expect(pool.preprocess(picture)).rejects.toMatchObject({ code: 'too_large' });
  });
});

describe('ImagePool with a worker that misbehaves', () => {
  const createWorker = () => new Worker(STAND_IN, { eval: true, workerData: gate, stderr: true });

  it.each([
    ['dies', 0, 'exit code 3'],
    ['throws', 1, 'exit code 1'],
  ])('loses the one picture on which a worker %s', async (_name, byte, message) => {
    let started = 0;
    open({ createWorker: () => (started++, createWorker()) });
    const outcomes = await Promise.allSettled(
      [9, byte, 7, 8].map((first) => pool.preprocess(Uint8Array.of(first))),
    );
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'fulfilled']);
    expect(outcomes[1]).toMatchObject({
      reason: { code: 'worker_failed', message: expect.stringContaining(message) },
    });
    expect(started).toBe(2);
    expect(pool.pending).toBe(0);
  });

  it('refuses pictures beyond its queue and takes them again later', async () => {
    open({ createWorker, maxQueue: 1 });
    Atomics.store(new Int32Array(gate), 0, 0);
    const held = pool.preprocess(Uint8Array.of(2));
    const queued = pool.preprocess(Uint8Array.of(5));
    await expect(pool.preprocess(Uint8Array.of(6))).rejects.toMatchObject({
      code: 'overloaded',
      message: '2 pictures are being decoded or waiting; try again later',
    });
    Atomics.store(new Int32Array(gate), 0, 1);
    Atomics.notify(new Int32Array(gate), 0);
    await expect(Promise.all([held, queued])).resolves.toHaveLength(2);
    await expect(pool.preprocess(Uint8Array.of(6))).resolves.toMatchObject({ width: 6 });
  });

  it('rejects what is not done when it closes', async () => {
    open({ createWorker });
    Atomics.store(new Int32Array(gate), 0, 0);
    const jobs = [2, 5].map((first) => pool.preprocess(Uint8Array.of(first)));
    const outcomes = Promise.allSettled(jobs);
    await pool.close();
    expect((await outcomes).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    await expect(pool.preprocess(Uint8Array.of(5))).rejects.toThrow('the image pool is closed');
  });
});
