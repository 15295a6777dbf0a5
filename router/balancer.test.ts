import { describe, expect, it } from 'vitest';
import { pick, type Candidate } from './balancer.ts';
import { DEFAULT_RATES } from './cost.ts';

function candidate(
  name: string,
  options: { credits?: number; waiting?: number; sequences?: number } = {},
): Candidate {
  return {
    name,
    credits: options.credits ?? 1,
    maxSequences: 4,
    load: {
      waitingUncachedTokens: options.waiting ?? 0,
      unackedTokens: 0,
      sequences: options.sequences ?? 0,
      kvUsage: 0,
    },
    rates: DEFAULT_RATES,
  };
}

const request = (workTokens = 1000, avoid: string[] = []) => ({ workTokens, avoid: new Set(avoid) });
const noHit = (): number => 0;
const first = (): number => 0;

describe('pick', () => {
  it.each([
    ['the cheapest', [candidate('a', { waiting: 900 }), candidate('b', { waiting: 100 })], [], {}, 'b'],
    ['only with credit', [candidate('a', { credits: 0 }), candidate('b', { waiting: 9000 })], [], {}, 'b'],
    ['nobody without credit', [candidate('a', { credits: 0 })], [], {}, undefined],
    ['nobody when there is nobody', [], [], {}, undefined],
    ['elsewhere first', [candidate('a'), candidate('b', { waiting: 9000 })], ['a'], {}, 'b'],
    [
      'rather waits than goes back while another one serves',
      [candidate('a'), candidate('b', { credits: 0 })],
      ['a'],
      {},
      undefined,
    ],
    ['back to the only one', [candidate('a')], ['a'], {}, 'a'],
    [
      'where a sequence can start at once, though another is cheaper',
      [candidate('a', { sequences: 4 }), candidate('b', { waiting: 9000, sequences: 3 })],
      [],
      { a: 1000 },
      'b',
    ],
    [
      'the cheapest when all are full',
      [candidate('a', { waiting: 900, sequences: 4 }), candidate('b', { waiting: 100, sequences: 6 })],
      [],
      {},
      'b',
    ],
    ['where it is warm', [candidate('a'), candidate('b', { waiting: 200 })], [], { b: 800 }, 'b'],
    [
      'not where it is warm but busy',
      [candidate('a'), candidate('b', { waiting: 1200 })],
      [],
      { b: 800 },
      'a',
    ],
    [
      'a belief larger than the request counts as the request',
      [candidate('a', { waiting: 10 }), candidate('b', { waiting: 5 })],
      [],
      { a: 1e9, b: 1e9 },
      'b',
    ],
    [
      'a negative belief counts as none',
      [candidate('a', { waiting: 100 }), candidate('b')],
      [],
      { b: -1e9 },
      'b',
    ],
  ])('%s', (_, candidates, avoid, hits: Record<string, number>, expected) => {
    expect(pick(candidates, request(1000, avoid), ({ name }) => hits[name] ?? 0, first)?.name).toBe(expected);
  });

  it('breaks ties by the random source, and takes every one of them', () => {
    const candidates = ['a', 'b', 'c'].map((name) => candidate(name));
    const chosen = [0, 0.34, 0.67, 0.999999].map(
      (value) => pick(candidates, request(), noHit, () => value)?.name,
    );
    expect(chosen).toEqual(['a', 'b', 'c', 'c']);
  });
});
