import { status } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Leaving } from './caller.ts';
import { ModelGate } from './model-gate.ts';
import type { ServedModel } from './models.ts';

const MODEL = { info: { model: 'm' } } as unknown as ServedModel;

/** A caller that a test can send away. */
class TestCaller implements Leaving {
  gone: Error | undefined;
  #listener: ((why: Error) => void) | undefined;

  onGone(listener: (why: Error) => void): void {
    this.#listener = listener;
  }

  leave(): void {
    this.gone = new Error('left');
    this.#listener?.(this.gone);
  }
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe('ModelGate', () => {
  it('holds requests until there is a model, then lets them pass at once', async () => {
    const gate = new ModelGate(10, 1000);
    const waiting = gate.wait(new TestCaller());
    expect(gate.waiting).toBe(1);
    gate.open(MODEL);
    expect(await waiting).toBe(MODEL);
    const gone = new TestCaller();
    gone.leave();
    expect(await gate.wait(gone)).toBe(MODEL);
    expect(gate.waiting).toBe(0);
  });

  it('gives up after the longest wait', async () => {
    const gate = new ModelGate(10, 1000);
    const waiting = expect(gate.wait(new TestCaller())).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      reason: 'NO_REPLICA',
    });
    await vi.advanceTimersByTimeAsync(1000);
    await waiting;
    expect(gate.waiting).toBe(0);
  });

  it('lets go of a caller that left, and of its timer', async () => {
    const gate = new ModelGate(10, 1000);
    const caller = new TestCaller();
    const waiting = expect(gate.wait(caller)).rejects.toThrow('left');
    caller.leave();
    await waiting;
    expect([gate.waiting, vi.getTimerCount()]).toEqual([0, 0]);
  });

  it('holds no more than it may', async () => {
    const gate = new ModelGate(1, 1000);
    const other = new TestCaller();
    void gate.wait(other);
    await expect(gate.wait(other)).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
      reason: 'QUEUE_FULL',
    });
    gate.open(MODEL);
  });

  it('holds no more bytes than it may, and counts what has left no more', async () => {
    const gate = new ModelGate(10, 1000, 100);
    const caller = new TestCaller();
    const first = expect(gate.wait(caller, 60)).rejects.toThrow('left');
    const other = new TestCaller();
    await expect(gate.wait(other, 60)).rejects.toMatchObject({ code: status.RESOURCE_EXHAUSTED });
    caller.leave();
    await first;
    const second = gate.wait(other, 100);
    gate.open(MODEL);
    expect(await second).toBe(MODEL);
  });
});
