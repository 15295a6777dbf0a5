import { array, assert, constantFrom, property } from 'fast-check';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { BpeEncoder } from './bpe.ts';
import { parseSentencePieceModel, type SentencePieceModel } from './sentencepiece-model.ts';

const model = parseSentencePieceModel(
  readFileSync(new URL('../../test/fixtures/checkpoints/tiny/tokenizer.model', import.meta.url)),
);

/** The same model with one more piece, which no text of this file holds. */
const withPiece = (text: string): SentencePieceModel => ({
  ...model,
  pieces: [...model.pieces, { text, score: -1e6, type: 'normal' }],
});

describe('BpeEncoder', () => {
  // A piece that reaches over the beginning of a word forbids encoding word by word.
  const whole = new BpeEncoder(withPiece('Q▁'), new Set());
  const byWord = new BpeEncoder(withPiece('▁QQ'), new Set());

  it('gives the same ids word by word, from its cache or not, as for the whole text', () => {
    const parts = ['the', 'quick', ' ', '  ', '▁', '\n', 'é', '中文', '😀', '<|im_end|>', 'e', 't', '.', '0'];
    assert(
      property(array(constantFrom(...parts), { maxLength: 40 }), (texts) => {
        const text = texts.join('');
        const expected = whole.encode(text);
        expect(byWord.encode(text)).toEqual(expected);
        expect(byWord.encode(text)).toEqual(expected);
      }),
    );
  });

  it('encodes more different words than it remembers, and long ones', () => {
    const text = Array.from({ length: 12_000 }, (_, index) => `word${index}`).join(' ') + 'x'.repeat(500);
    expect(byWord.encode(text)).toEqual(whole.encode(text));
    expect(byWord.encode(text)).toEqual(whole.encode(text));
  });

  it('uses a piece that reaches over the beginning of a word', () => {
    expect(whole.encode('Q Q')[0]).toBe(model.pieces.length);
  });
});
