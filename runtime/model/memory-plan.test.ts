import { describe, expect, it } from 'vitest';
import { describeMemory, OutOfMemory } from './memory-plan.ts';

const PLAN = { weights: 80.1e9, kvCache: 3e9, encodedPictures: 0.25e9, forwardPasses: 0.4e9 };

describe('describeMemory', () => {
  it('says who takes what of how much', () => {
    const device = { name: 'NVIDIA H100', freeBytes: 1.5e9, totalBytes: 85e9 };
    expect(describeMemory(PLAN, device)).toMatch(
      /^Planned: weights 80\.1 GB, KV cache 3\.0 GB, encoded pictures 0\.3 GB, forward passes 0\.4 GB = 83\.8 GB; NVIDIA H100 has 85\.0 GB, 1\.5 GB of them free: the weights alone fill it: split/,
    );
  });

  it('blames the caches where the weights leave room', () => {
    const device = { name: 'H200', freeBytes: 0, totalBytes: 150e9 };
    expect(describeMemory(PLAN, device)).toMatch(/free: give the KV cache less/);
    expect(describeMemory({ ...PLAN, kvCache: 2e6 }, device)).toContain('KV cache 2.0 MB');
  });

  it('comes after what the operation said', () => {
    const cause = new Error('allocate: out of device memory: asked for 5 bytes');
    const error = new OutOfMemory(cause, PLAN, { name: 'x', freeBytes: 0, totalBytes: 1 });
    expect(error.message).toMatch(/^allocate: out of device memory: asked for 5 bytes\. Planned: weights/);
    expect(error.cause).toBe(cause);
  });
});
