import { array, assert, integer, nat, property } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { message } from '../../test/support/http2-frames.ts';
import { joined, MessageReader, PIECE_BYTES, type BodyFault, type Pieces } from './message-reader.ts';
import { ReceiveBudget } from './receive-budget.ts';

const MOST = 2_000_000;

class Reading {
  readonly messages: [bytes: number, compressed: boolean][] = [];
  readonly kept: Pieces[] = [];
  readonly faults: BodyFault[] = [];
  readonly budget: ReceiveBudget;
  readonly reader: MessageReader;

  constructor(room = 2 * MOST) {
    this.budget = new ReceiveBudget(room);
    this.reader = new MessageReader({
      mostBytes: MOST,
      budget: this.budget,
      take: (pieces, compressed) => {
        this.messages.push([joined(pieces).length, compressed]);
        this.kept.push(pieces);
      },
      refuse: (fault) => this.faults.push(fault),
    });
  }

  push(bytes: Buffer): void {
    // As from a connection, whose bytes are other ones later.
    const lent = Buffer.concat([Buffer.alloc(3), bytes, Buffer.alloc(2)]);
    this.reader.push(lent, 3, 3 + bytes.length);
    lent.fill(0xee);
  }
}

describe('MessageReader', () => {
  it('gives the same messages however the body is cut', () => {
    assert(
      property(
        array(nat({ max: 600_000 }), { minLength: 1, maxLength: 4 }),
        array(integer({ min: 1, max: 400_000 }), { minLength: 1, maxLength: 5 }),
        (sizes, cuts) => {
          const bodies = sizes.map((size, index) => Buffer.alloc(size, index + 1));
          const whole = Buffer.concat(bodies.map((body) => message(body)));
          const reading = new Reading();
          for (let at = 0, turn = 0; at < whole.length; turn++) {
            const end = Math.min(whole.length, at + cuts[turn % cuts.length]!);
            reading.push(whole.subarray(at, end));
            at = end;
          }
          expect(reading.kept.map((pieces, index) => joined(pieces).equals(bodies[index]!))).toEqual(
            sizes.map(() => true),
          );
          expect(reading.reader.complete).toBe(true);
          expect(reading.budget.taken).toBe(0);
        },
      ),
      { seed: 20261130, numRuns: 60 },
    );
  });

  it.each([
    ['one with a piece of a file in one piece', 262_160, [262_160]],
    ['a large one in pieces', 600_000, [PIECE_BYTES, PIECE_BYTES, 600_000 - 2 * PIECE_BYTES]],
  ])('gives a message that came in parts in memory of just its size: %s', (_, size, pieces) => {
    const reading = new Reading();
    const whole = message(Buffer.alloc(size, 1));
    for (let at = 0; at < whole.length; at += 16_384) reading.push(whole.subarray(at, at + 16_384));
    expect(reading.kept[0]!.map(({ buffer }) => buffer.byteLength)).toEqual(pieces);
  });

  it('refuses by its length what is too large, and takes no memory for it', () => {
    const reading = new Reading();
    const { arrayBuffers } = process.memoryUsage();
    reading.push(Buffer.from('00ffffffff78', 'hex'));
    expect(reading.faults).toEqual([{ kind: 'too large', bytes: 0xffff_ffff }]);
    expect(process.memoryUsage().arrayBuffers - arrayBuffers).toBeLessThan(1_000_000);
    reading.push(message('more'));
    expect(reading.messages).toEqual([]);
  });

  it('takes memory for what has come, not for what is announced', () => {
    const reading = new Reading();
    reading.push(message(Buffer.alloc(MOST)).subarray(0, 100));
    expect(reading.budget.taken).toBeLessThan(300_000);
    reading.reader.close();
    expect(reading.budget.taken).toBe(0);
  });

  it('refuses a message in parts for which there is no room, and one whose flag is none', () => {
    const full = new Reading(100_000);
    full.push(message(Buffer.alloc(200_000)).subarray(0, 1_000));
    expect(full.faults).toEqual([{ kind: 'no room' }]);
    expect(full.budget.taken).toBe(0);
    const odd = new Reading();
    odd.push(message('x', 3));
    expect(odd.faults).toEqual([{ kind: 'bad flag', flag: 3 }]);
  });

  it('says whether a message is compressed, and takes empty ones', () => {
    const reading = new Reading();
    reading.push(Buffer.concat([message('', 0), message('abc', 1), message('', 1)]));
    expect(reading.messages).toEqual([
      [0, false],
      [3, true],
      [0, true],
    ]);
  });
});
