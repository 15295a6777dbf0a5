import { describe, expect, it } from 'vitest';

import { submission } from '../../test/support/submissions.ts';
import { Sequence } from './sequence.ts';
import { WaitingLine } from './waiting-line.ts';

interface Waiting {
  readonly tenant?: string;
  readonly priority?: number;
  readonly since?: number;
}

function lineOf(...waiting: readonly Waiting[]): WaitingLine {
  const line = new WaitingLine(100);
  for (const [handle, { tenant = '', priority = 0, since = 0 }] of waiting.entries()) {
    line.add(new Sequence(submission(handle, { cacheSalt: tenant, priority }), handle, 0n, 0), since);
  }
  return line;
}

/** Handles in the order in which they are started, each for `tokens`. */
function started(line: WaitingLine, tokens: (sequence: Sequence) => number, step = 10): number[] {
  const order: number[] = [];
  for (const sequence of line.inOrder(step)) {
    line.start(sequence, tokens(sequence), step);
    order.push(sequence.handle);
  }
  return order;
}

const a = { tenant: 'a' };
const b = { tenant: 'b' };

describe('order of the waiting', () => {
  it.each<[string, Waiting[], number[]]>([
    ['is that of arrival for one tenant', [{}, {}, {}], [0, 1, 2]],
    ['goes in turns for several', [a, a, a, b, b], [0, 3, 1, 4, 2]],
    ['takes those without a salt for one tenant', [{}, {}, a, {}, a], [0, 2, 1, 4, 3]],
    [
      'is by priority first',
      [a, { ...b, priority: 1 }, { ...b, priority: 1 }, { ...a, priority: 2 }],
      [3, 1, 2, 0],
    ],
  ])('%s', (_, waiting, order) => {
    expect(started(lineOf(...waiting), () => 10)).toEqual(order);
  });

  it('gives equal tokens, not equal numbers', () => {
    const line = lineOf(a, a, b, b, b, b, b, b);
    expect(started(line, ({ cacheSalt }) => (cacheSalt === 'a' ? 30 : 10))).toEqual([0, 2, 3, 4, 1, 5, 6, 7]);
  });

  it('counts a token of an answer twice', () => {
    const line = lineOf(a, b, a, b);
    const [first, second] = [...line];
    line.start(first!, 10, 0);
    line.start(second!, 10, 0);
    for (let token = 0; token < 3; token += 1) line.answered(first!);
    for (let token = 0; token < 2; token += 1) line.answered(second!);
    expect(started(line, () => 10)).toEqual([3, 2]);
  });

  it('takes what has waited long for one of the highest priority', () => {
    const line = lineOf({ priority: 0, since: 0 }, { priority: 9, since: 50 }, { priority: 5, since: 50 });
    expect([...line.inOrder(99)].map(({ handle }) => handle)).toEqual([1, 2, 0]);
    expect([...line.inOrder(100)].map(({ handle }) => handle)).toEqual([0, 1, 2]);
  });

  it('does not let a tenant that has waited long behind itself pass others', () => {
    const line = lineOf(a, a, a, a, { ...b, since: 490 });
    const [first] = [...line];
    line.start(first!, 10, 480);
    line.end(first!);
    expect(started(line, () => 10, 500)).toEqual([4, 1, 2, 3]);
  });

  it('goes on in turns when some are left waiting', () => {
    const line = lineOf(a, a, b, b);
    const seen: number[] = [];
    for (const sequence of line.inOrder(0)) {
      seen.push(sequence.handle);
      if (sequence.handle !== 0) line.start(sequence, 10, 0);
    }
    expect(seen).toEqual([0, 1, 2, 3]); // 0 has cost nothing
    expect([...line].map(({ handle }) => handle)).toEqual([0]);
  });

  it('knows tenants only while they have a sequence, waiting or running', () => {
    const line = lineOf(a, b, b);
    const sequences = [...line];
    line.start(sequences[0]!, 10, 0);
    expect(line.numTenants).toBe(2);
    line.putBack(sequences[0]!, 5);
    for (const sequence of sequences) line.end(sequence);
    expect([line.numTenants, line.size]).toEqual([0, 0]);
  });
});
