import { EventEmitter } from 'node:events';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { RpcError } from './status.ts';
import { StreamWriter } from './writer.ts';

/** A stream that takes `room` messages until it is drained. */
class FakeCall extends EventEmitter {
  readonly sent: string[] = [];
  readonly written: (() => void)[] = [];
  ended = false;
  errors: (Error & { code?: number })[] = [];
  room: number;

  constructor(room: number) {
    super();
    this.room = room;
    this.on('error', (err: Error) => this.errors.push(err));
  }

  write(message: string, written?: () => void): boolean {
    this.sent.push(message);
    if (written) this.written.push(written);
    return --this.room > 0;
  }

  end(): void {
    this.ended = true;
  }

  drain(room: number): void {
    this.room = room;
    this.emit('drain');
  }
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe('StreamWriter', () => {
  const byteLength = (message: string): number => message.length;

  it('queues while the transport is full and keeps the order', () => {
    const call = new FakeCall(2);
    const writer = new StreamWriter(call, { byteLength });
    for (const message of ['a', 'b', 'c', 'd', 'e']) expect(writer.write(message)).toBe(true);
    expect(call.sent).toEqual(['a', 'b']);
    expect(writer.queuedBytes).toBe(3);
    call.drain(2);
    expect(call.sent).toEqual(['a', 'b', 'c', 'd']);
    call.drain(5);
    expect(call.sent).toEqual(['a', 'b', 'c', 'd', 'e']);
    expect(writer.queuedBytes).toBe(0);
  });

  it('merges what waits where it can', () => {
    const call = new EventEmitter() as EventEmitter & { write(message: string[]): boolean; end(): void };
    const sent: string[][] = [];
    let room = 1;
    call.write = (message) => {
      sent.push(message);
      return --room > 0;
    };
    const writer = new StreamWriter<string[]>(call, {
      byteLength: (message) => message.join('').length,
      merge: (last, next) => next[0] !== '!' && last[0] !== '!' && last.push(...next) > 0,
    });
    for (const message of ['a', 'b', 'c', '!', 'd', 'e']) writer.write([message]);
    expect(writer.queuedBytes).toBe(5);
    room = 9;
    call.emit('drain');
    // Not into the first, which the transport has.
    expect(sent).toEqual([['a'], ['b', 'c'], ['!'], ['d', 'e']]);
    expect(writer.queuedBytes).toBe(0);
  });

  it('counts only the time since the transport last took something', () => {
    const call = new FakeCall(1);
    const writer = new StreamWriter(call, { byteLength, maxAgeMs: 1_000 });
    writer.write('a');
    writer.write('b');
    vi.advanceTimersByTime(900);
    call.drain(1); // takes 'b' and no more
    vi.advanceTimersByTime(900);
    expect(writer.open).toBe(true);
    vi.advanceTimersByTime(200);
    expect(writer.open).toBe(false);
  });

  it('ends only after the queue is sent', () => {
    const call = new FakeCall(1);
    const writer = new StreamWriter(call, { byteLength });
    writer.write('a');
    writer.write('b');
    writer.end();
    expect(call.ended).toBe(false);
    expect(writer.write('c')).toBe(false);
    call.drain(9);
    expect(call.sent).toEqual(['a', 'b']);
    expect(call.ended).toBe(true);
  });

  it('cuts off a reader that lets too many bytes wait', () => {
    const call = new FakeCall(1);
    const writer = new StreamWriter(call, { byteLength, maxBytes: 4 });
    writer.write('a');
    expect(writer.write('1234')).toBe(true);
    expect(writer.write('5')).toBe(false);
    expect(call.errors).toMatchObject([{ code: 8 }]);
    expect(writer.open).toBe(false);
    expect(writer.queuedBytes).toBe(0);
  });

  it('cuts off a reader that takes nothing for too long', () => {
    const call = new FakeCall(1);
    const writer = new StreamWriter(call, { byteLength, maxAgeMs: 50 });
    writer.write('a');
    vi.advanceTimersByTime(49);
    expect(call.errors).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(call.errors).toMatchObject([{ code: 8 }]);
  });

  it.each(['cancelled', 'close'])('wakes waiting producers with false on %s', async (event) => {
    const call = new FakeCall(1);
    const writer = new StreamWriter(call, { byteLength });
    writer.write('a');
    const ready = writer.ready();
    call.emit(event);
    expect(await ready).toBe(false);
    expect(await writer.ready()).toBe(false);
    expect(writer.write('b')).toBe(false);
  });

  it('fails only after what was written before is out', () => {
    const call = new FakeCall(1);
    const writer = new StreamWriter(call, { byteLength });
    writer.write('a');
    writer.write('b');
    writer.failAfterFlush(new RpcError(14, 'GONE', 'gone'), 1000);
    writer.end();
    call.written.shift()?.();
    call.drain(9);
    expect(call.errors).toEqual([]);
    call.written.shift()?.();
    expect(call.sent).toEqual(['a', 'b']);
    expect(call.errors).toMatchObject([{ code: 14 }]);
    expect(call.ended).toBe(false);
  });

  it('fails after the grace when nobody reads', () => {
    const call = new FakeCall(1);
    const writer = new StreamWriter(call, { byteLength });
    writer.write('a');
    writer.failAfterFlush(new RpcError(14, 'GONE', 'gone'), 1000);
    vi.advanceTimersByTime(1000);
    expect(call.errors).toMatchObject([{ code: 14 }]);
  });

  it('wakes waiting producers with true once drained', async () => {
    const call = new FakeCall(1);
    const writer = new StreamWriter(call, { byteLength });
    expect(await writer.ready()).toBe(true);
    writer.write('a');
    const ready = writer.ready();
    call.drain(4);
    expect(await ready).toBe(true);
  });
});
