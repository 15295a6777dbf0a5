import { status } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ModelGate } from './model-gate.ts';
import type { ServedModel } from './models.ts';

const MODEL = { info: { model: 'm' } } as unknown as ServedModel;
beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe('ModelGate', () => {
  it('holds requests until there is a model, then lets them pass at once', async () => {
    const gate = new ModelGate(10, 1000);
    const waiting = gate.wait(new AbortController().signal);
    expect(gate.waiting).toBe(1);
    gate.open(MODEL);
    expect(await waiting).toBe(MODEL);
    expect(await gate.wait(AbortSignal.abort())).toBe(MODEL);
    expect(gate.waiting).toBe(0);
  });

  it('gives up after the longest wait', async () => {
    const gate = new ModelGate(10, 1000);
    const waiting = expect(gate.wait(new AbortController().signal)).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      reason: 'NO_REPLICA',
    });
    await vi.advanceTimersByTimeAsync(1000);
    await waiting;
    expect(gate.waiting).toBe(0);
  });

  it('lets go of a caller that left, and of its timer', async () => {
    const gate = new ModelGate(10, 1000);
    const controller = new AbortController();
    const waiting = expect(gate.wait(controller.signal)).rejects.toThrow('left');
    controller.abort(new Error('left'));
    await waiting;
    expect([gate.waiting, vi.getTimerCount()]).toEqual([0, 0]);
  });

  it('holds no more than it may', async () => {
    const gate = new ModelGate(1, 1000);
    const { signal } = new AbortController();
    void gate.wait(signal);
    await expect(gate.wait(signal)).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
      reason: 'QUEUE_FULL',
    });
    gate.open(MODEL);
  });

  it('holds no more bytes than it may, and counts what has left no more', async () => {
    const gate = new ModelGate(10, 1000, 100);
    const controller = new AbortController();
    const first = expect(gate.wait(controller.signal, 60)).rejects.toThrow('left');
    const { signal } = new AbortController();
    await expect(gate.wait(signal, 60)).rejects.toMatchObject({ code: status.RESOURCE_EXHAUSTED });
    controller.abort(new Error('left'));
    await first;
    const second = gate.wait(signal, 100);
    gate.open(MODEL);
    expect(await second).toBe(MODEL);
  });
});
