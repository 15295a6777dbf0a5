import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../test/support/seeded-random.ts';
import { Outbox } from './outbox.ts';
import { FrameType } from './protocol.ts';

const LARGE = 200 * 1024;

function write(outbox: Outbox, byte: number, length: number): void {
  const at = outbox.frame(FrameType.DATA, 0, 1, length);
  outbox.bytes.fill(byte, at, at + length);
}

describe('an outbox', () => {
  it('goes on in another buffer while the socket holds one, and in that one again when it is free', () => {
    const outbox = new Outbox();
    write(outbox, 1, LARGE);
    const first = outbox.bytes.buffer;
    const taken = outbox.take();
    outbox.replace();
    write(outbox, 2, 3);
    expect(outbox.bytes.buffer).not.toBe(first);
    expect(taken.subarray(9).every((byte) => byte === 1)).toBe(true);
    outbox.reuse();
    expect(outbox.bytes.buffer).toBe(first);
    expect(outbox.take().subarray(9)).toEqual(Buffer.from([2, 2, 2]));
  });

  it('does not keep what had to grow beyond a turn’s DATA', () => {
    const outbox = new Outbox();
    write(outbox, 1, 2 * LARGE);
    outbox.take();
    outbox.reuse();
    expect(outbox.bytes.length).toBeLessThan(LARGE);
  });

  it('sends every byte in order, whenever the socket gives buffers back', () => {
    const random = seededRandom(5);
    for (let round = 0; round < 50; round++) {
      const outbox = new Outbox();
      const sent: Buffer[] = [];
      let held: { readonly bytes: Buffer; readonly copy: Buffer }[] = [];
      const expected: number[] = [];
      const flush = (atOnce: boolean): void => {
        const bytes = outbox.take();
        sent.push(Buffer.from(bytes));
        if (atOnce && held.length === 0) outbox.reuse();
        else {
          held.push({ bytes, copy: Buffer.from(bytes) });
          outbox.replace();
        }
      };
      for (let step = 0; step < 60; step++) {
        const what = random();
        if (what < 0.5) {
          const length = Math.floor(random() ** 4 * 40_000);
          write(outbox, step, length);
          expected.push(...Array.from({ length }, () => step));
        } else if (what < 0.8) flush(random() < 0.5);
        else {
          for (const { bytes, copy } of held) expect(bytes.equals(copy)).toBe(true);
          held = [];
          outbox.reuse();
        }
      }
      flush(true);
      const all = Buffer.concat(sent);
      const payload: Buffer[] = [];
      for (let at = 0; at < all.length; at += 9 + all.readUIntBE(at, 3))
        payload.push(all.subarray(at + 9, at + 9 + all.readUIntBE(at, 3)));
      expect(Buffer.concat(payload).equals(Buffer.from(expected))).toBe(true);
    }
  });
});
