import { describe, expect, it } from 'vitest';
import { Outbox } from './outbox.ts';
import { DEFAULT_WINDOW_BYTES, FrameType } from './protocol.ts';
import { Sending, type Sender } from './sending.ts';

const FRAME = 100;

/** Senders of frames of FRAME bytes; each is given its next as soon as it has sent its last, until it has sent `frames`. */
function crowd(senders: number, frames: number) {
  const outbox = new Outbox();
  const sending = new Sending(outbox);
  const order: number[] = [];
  let calls = 0;
  const all = Array.from({ length: senders }, (_, id): Sender => {
    let left = frames;
    const sender: Sender = {
      sendQueued() {
        calls++;
        if (left === 0 || sending.room() < FRAME) return false;
        left--;
        sending.sent(FRAME);
        outbox.frame(FrameType.DATA, 0, id, FRAME);
        order.push(id);
        if (left > 0) sending.wait(sender);
        return false;
      },
    };
    return sender;
  });
  return { sending, order, all, calls: () => calls };
}

describe('Sending', () => {
  it('asks each of many streams once a frame, also when it waits again while the others are served', () => {
    const { sending, order, all, calls } = crowd(500, 3);
    sending.setBlocked(true);
    sending.widen(1 << 20);
    for (const sender of all) sending.wait(sender);
    expect(calls()).toBe(0);
    sending.setBlocked(false);
    expect(order).toHaveLength(1_500);
    expect(calls()).toBe(1_500);
    // A frame each, in turn.
    expect(order.slice(500, 1_000)).toEqual(Array.from({ length: 500 }, (_, id) => id));
  });

  it('goes on where it stopped when the window was used up', () => {
    const { sending, order, all } = crowd(10, 1_000);
    sending.sent(DEFAULT_WINDOW_BYTES);
    for (const sender of all) sending.wait(sender);
    for (let i = 0; i < 7; i++) sending.widen(3 * FRAME);
    expect(order).toEqual(Array.from({ length: 21 }, (_, index) => index % 10));
    expect(sending.crowded).toBe(true);
  });

  it('goes on after a stream that failed', () => {
    const { sending, order, all } = crowd(1, 1);
    const failing: Sender = {
      sendQueued() {
        throw new Error('its listener failed');
      },
    };
    expect(() => sending.wait(failing)).toThrow('its listener failed');
    sending.wait(all[0]!);
    expect(order).toEqual([0]);
  });
});
