import { fileURLToPath } from 'node:url';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Detokenizer } from './detokenizer.ts';
import { Tokenizer } from './tokenizer.ts';

const tokenizer = Tokenizer.fromDirectory(
  fileURLToPath(new URL('../../test/fixtures/checkpoints/tiny', import.meta.url)),
);
const BYTE_0 = tokenizer.controlTokenId('<0x00>');
const bytesOf = (text: string) => [...new TextEncoder().encode(text)].map((byte) => BYTE_0 + byte);
const SPACE = 811;
const SPACES = 391;
const A = 816;
const START = 6;
const END = 7;

function stream(chunks: readonly (readonly number[])[]): string[] {
  const detokenizer = new Detokenizer(tokenizer);
  return [...chunks.map((ids) => detokenizer.push(ids)), detokenizer.flush()];
}

describe('Detokenizer', () => {
  it.each<[string, number[][], string[]]>([
    ['drops one leading space', [[SPACE], [A], [SPACE], [A]], ['', 'a', ' ', 'a', '']],
    ['holds a character until its last byte', bytesOf('中').map((id) => [id]), ['', '', '中', '']],
    [
      'holds a four-byte character in front of text',
      [bytesOf('🙂').slice(0, 3), [...bytesOf('🙂').slice(3), A]],
      ['', '🙂a', ''],
    ],
    ['replaces a character that text cuts off', [bytesOf('中').slice(0, 2), [A]], ['', '\uFFFD\uFFFDa', '']],
    ['replaces a character that the end cuts off', [bytesOf('🙂').slice(0, 3)], ['', '\uFFFD\uFFFD\uFFFD']],
    ['replaces an overlong form byte by byte', [[BYTE_0 + 0xc0, BYTE_0 + 0x80]], ['\uFFFD\uFFFD', '']],
    [
      'drops special tokens, also inside a character',
      [[...bytesOf('é').slice(0, 1), END], bytesOf('é').slice(1)],
      ['', 'é', ''],
    ],
    ['keeps a control token without a role', [[A], [START], [A]], ['a', ' <|im_start|>', ' a', '']],
    ['ends with the space of an empty last segment', [[START], [SPACE]], ['<|im_start|>', '', ' ']],
    ['gives ids beyond the tokenizer no text', [[A, 5000, -1, 1.5], [A]], ['a', 'a', '']],
  ])('%s', (_name, chunks, texts) => {
    expect(stream(chunks)).toEqual(texts);
  });

  it('gives what decode gives, however the ids are split', () => {
    const id = fc.oneof(
      fc.nat(tokenizer.vocabSize - 1),
      fc.constantFrom(SPACE, SPACES, START, END, A, 2, 8, 0, 1002),
      fc.constantFrom(...bytesOf('é中🙂')),
      fc.integer({ min: BYTE_0, max: BYTE_0 + 255 }),
    );
    const chunks = fc.array(fc.array(id, { maxLength: 5 }), { maxLength: 12 });
    fc.assert(
      fc.property(chunks, (ids) => {
        expect(stream(ids).join('')).toBe(tokenizer.decode(ids.flat(), { skipSpecialTokens: true }));
      }),
      { seed: 5, numRuns: 1000 },
    );
  });

  it('starts anew after flush', () => {
    const detokenizer = new Detokenizer(tokenizer);
    detokenizer.push([START, A]);
    detokenizer.flush();
    expect(detokenizer.push([SPACE, A]) + detokenizer.flush()).toBe('a');
  });
});
