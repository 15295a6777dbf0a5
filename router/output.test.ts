import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AnswerText, type IncrementalDetokenizer } from './output.ts';

/** One character a token, but '~' is a byte of a character that never becomes whole. */
function characters(text: string): { readonly ids: number[]; readonly detokenizer: IncrementalDetokenizer } {
  let held = '';
  return {
    ids: text.split('').map((character) => character.codePointAt(0)!),
    detokenizer: {
      push(ids) {
        let out = '';
        for (const id of ids) {
          const character = String.fromCodePoint(id);
          if (character === '~') held += '\uFFFD';
          else {
            out += held + character;
            held = '';
          }
        }
        return out;
      },
      flush: () => held,
    },
  };
}

function run(text: string, stops: string[], minTokens = 0, chunk = 1) {
  const { ids, detokenizer } = characters(text);
  const answer = new AnswerText(detokenizer, { stops, minTokens });
  const pieces: string[] = [];
  let matched: string | undefined;
  for (let at = 0; at < ids.length && matched === undefined; at += chunk) {
    const piece = answer.push(ids.slice(at, at + chunk));
    pieces.push(piece.text);
    matched = piece.matchedStop;
  }
  if (matched === undefined) {
    const rest = answer.finish();
    pieces.push(rest.text);
    matched = rest.matchedStop;
  }
  return { text: pieces.join(''), pieces, matched, tokens: answer.tokens };
}

describe('AnswerText', () => {
  it.each([
    ['no stops', 'abc', [], 0, 'abc', undefined, 3],
    ['a stop in the middle', 'one two three', ['two'], 0, 'one ', 'two', 7],
    ['a stop at the start', 'two', ['two'], 0, '', 'two', 3],
    ['the first occurrence', 'abcabc', ['bc'], 0, 'a', 'bc', 3],
    ['the earlier of two', 'xx END yy STOP', ['STOP', 'END'], 0, 'xx ', 'END', 6],
    ['a beginning that comes to nothing', 'ab abx', ['abc'], 0, 'ab abx', undefined, 6],
    ['a beginning at the very end is text after all', 'say ab', ['abc'], 0, 'say ab', undefined, 6],
    ['a stop that overlaps a false start', 'aab', ['ab'], 0, 'a', 'ab', 3],
    ['a self-overlapping false start', 'aaab', ['aab'], 0, 'a', 'aab', 4],
    ['a stop before min_tokens is text', 'a.b.c', ['.'], 3, 'a.b', '.', 4],
    ['a stop that completes with token min_tokens ends it', 'ab.', ['.'], 3, 'ab', '.', 3],
    ['an occurrence wholly before min_tokens is not found later', 'xyzab', ['xy'], 3, 'xyzab', undefined, 5],
    ['an occurrence that spans min_tokens ends it', 'aSTOPb', ['STOP'], 3, 'a', 'STOP', 5],
    [
      'a short stop held back inside a longer one, before min_tokens',
      'ab1',
      ['b', 'ab1z'],
      3,
      'ab1',
      undefined,
      3,
    ],
    ['what never becomes a character comes with the end', 'ab~', ['zz'], 0, 'ab\uFFFD', undefined, 3],
    ['and may complete a stop', 'ab~', ['b\uFFFD'], 0, 'a', 'b\uFFFD', 3],
  ] as const)('%s', (_, text, stops, minTokens, expected, matched, tokens) => {
    expect(run(text, [...stops], minTokens)).toMatchObject({ text: expected, matched, tokens });
  });

  it('holds back only what may be the start of a stop', () => {
    expect(run('a ST x STOP', ['STOP']).pieces).toEqual(['a', ' ', '', '', 'ST ', 'x', ' ', '', '', '', '']);
  });

  it('drops tokens that came in the same step after the end', () => {
    const { ids, detokenizer } = characters('ab.cd');
    const answer = new AnswerText(detokenizer, { stops: ['.'], minTokens: 0 });
    expect(answer.push(ids)).toEqual({ text: 'ab', tokens: 3, matchedStop: '.' });
    expect(answer.push(ids)).toEqual({ text: '', tokens: 0, matchedStop: undefined });
    expect(answer.finish()).toEqual({ text: '', tokens: 0, matchedStop: undefined });
    expect(answer.tokens).toBe(3);
  });

  it('gives the same text however the tokens were split, and never a part of the stop', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 40 });
    const stops = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 4 }), {
      maxLength: 3,
    });
    fc.assert(
      fc.property(letters, stops, fc.integer({ min: 1, max: 7 }), (text, stopList, chunk) => {
        const result = run(text, stopList, 0, chunk);
        // The stop that is complete first ends the answer.
        let expected = text;
        for (let end = 1; end <= text.length; end++) {
          const starts = stopList
            .filter((stop) => text.slice(0, end).endsWith(stop))
            .map((stop) => end - stop.length);
          if (starts.length === 0) continue;
          expected = text.slice(0, Math.min(...starts));
          break;
        }
        expect(result.text).toBe(expected);
        expect(result.matched === undefined).toBe(
          expected === text && !stopList.some((stop) => text.includes(stop)),
        );
      }),
      { seed: 7, numRuns: 1000 },
    );
  });
});
