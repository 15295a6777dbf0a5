import { fileURLToPath } from 'node:url';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readTokenizerFiles, Tokenizer } from './tokenizer.ts';
import { TokenizerError } from './tokenizer-error.ts';

const TINY = fileURLToPath(new URL('../../test/fixtures/checkpoints/tiny', import.meta.url));
const tokenizer = Tokenizer.fromDirectory(TINY);
const controlTexts = [...tokenizer.vocabulary.added.ids.keys()];
const controlIds = new Set(tokenizer.vocabulary.added.ids.values());

/** Text in which control strings, halves of them, spaces and characters of every kind meet. */
const hostileText = fc
  .array(
    fc.oneof(
      fc.constantFrom(...controlTexts, '<|im_', 'end|>', '<im', 'g>', '<', '>', ' ', '▁', '<|im_sep|>'),
      fc.string({ unit: 'binary', maxLength: 4 }),
    ),
    { maxLength: 20 },
  )
  .map((parts) => parts.join(''));

function fileOf(name: string, content: object | string): Map<string, Uint8Array> {
  const files = readTokenizerFiles(TINY);
  files.set(name, new TextEncoder().encode(typeof content === 'string' ? content : JSON.stringify(content)));
  return files;
}

describe('Tokenizer.encode', () => {
  it('never gives the id of a control token', () => {
    fc.assert(
      fc.property(hostileText, (text) => {
        expect(tokenizer.encode(text).filter((id) => controlIds.has(id))).toEqual([]);
      }),
      { seed: 2, numRuns: 500 },
    );
  });

  it('equals the published behaviour where the text holds no control string', () => {
    fc.assert(
      fc.property(hostileText, (text) => {
        const plain = controlTexts.reduce((rest, control) => rest.replaceAll(control, ''), text);
        fc.pre(!controlTexts.some((control) => plain.includes(control)));
        expect(tokenizer.encode(plain)).toEqual(tokenizer.encodeWithControlTokens(plain));
      }),
      { seed: 3, numRuns: 500 },
    );
  });

  it('loses nothing: decoding gives the text back but for one leading space', () => {
    fc.assert(
      fc.property(hostileText, (text) => {
        // A letter in front keeps the published decoding from taking a leading space away.
        const decoded = tokenizer.decode(tokenizer.encode(`a${text}`), { skipSpecialTokens: true });
        expect(decoded).toBe(`a${text}`.replaceAll('▁', ' ').replace(/\p{Surrogate}/gu, '\uFFFD'));
      }),
      { seed: 4, numRuns: 500 },
    );
  });

  it('encodes a text of 100 000 characters that merge into each other', () => {
    const text = ' '.repeat(100_000);
    const ids = tokenizer.encode(text);
    expect(tokenizer.decode([...tokenizer.encode('a'), ...ids], { skipSpecialTokens: true })).toBe(
      `a${text}`,
    );
  });
});

describe('Tokenizer', () => {
  it('knows its control tokens and its size', () => {
    expect(
      ['<unk>', '<|im_start|>', '<|im_end|>', '<img>', '</img>', '<IMG_CONTEXT>'].map((text) =>
        tokenizer.controlTokenId(text),
      ),
    ).toEqual([0, 6, 7, 68, 70, 1002]);
    expect(tokenizer.vocabSize).toBe(1009);
    expect(() => tokenizer.controlTokenId('<audio>')).toThrow('has no token "<audio>"');
  });

  it('refuses to decode an id that is no token', () => {
    expect(() => tokenizer.decode([5, 1009], { skipSpecialTokens: true })).toThrow(
      'token id 1009 is not in the vocabulary of 1009 tokens',
    );
  });

  it('has a fingerprint of its files', () => {
    expect(tokenizer.fingerprint).toMatch(/^[0-9a-f]{64}$/);
    expect(Tokenizer.fromFiles(readTokenizerFiles(TINY)).fingerprint).toBe(tokenizer.fingerprint);
    expect(Tokenizer.fromFiles(fileOf('config.json', {})).fingerprint).toBe(tokenizer.fingerprint);
    expect(Tokenizer.fromFiles(fileOf('added_tokens.json', {})).fingerprint).not.toBe(tokenizer.fingerprint);
  });

  it('reads older files, whose added tokens stand in added_tokens.json and special_tokens_map.json', () => {
    const files = fileOf('tokenizer_config.json', { add_bos_token: false });
    const older = Tokenizer.fromFiles(files);
    expect(older.encodeWithControlTokens('<img><IMG_CONTEXT></img>')).toEqual([68, 1002, 70]);
    expect(older.decode([68, 1002, 70, 816], { skipSpecialTokens: true })).toBe('a');
    // Not an added token in these files, but what the prompt template is made of.
    expect(older.encode('<|im_start|>')).not.toContain(6);
  });

  it('puts bos in front where the files ask for it, as is their default', () => {
    const files = fileOf('tokenizer_config.json', { bos_token: '<|startoftext|>', eos_token: '<|im_end|>' });
    expect(Tokenizer.fromFiles(files).encodeWithControlTokens('a')).toEqual([1, 816]);
  });

  it.each<[string, Map<string, Uint8Array>, string]>([
    ['no model', new Map(), 'tokenizer.model: is missing'],
    [
      'a truncated model',
      new Map([['tokenizer.model', readTokenizerFiles(TINY).get('tokenizer.model')!.subarray(0, 500)]]),
      'tokenizer.model: is not a sentencepiece model',
    ],
    [
      'another file as model',
      fileOf('tokenizer.model', '{"model": 1}'),
      'tokenizer.model: is not a sentencepiece model',
    ],
    [
      'a configuration that is not JSON',
      fileOf('tokenizer_config.json', '{'),
      'tokenizer_config.json: is not JSON',
    ],
    [
      'a configuration that is a list',
      fileOf('tokenizer_config.json', []),
      'tokenizer_config.json: is not a JSON object',
    ],
    [
      'another tokenization',
      fileOf('tokenizer_config.json', { legacy: false }),
      'tokenizer_config.json: has legacy false',
    ],
    [
      'a token that eats spaces',
      fileOf('tokenizer_config.json', { bos_token: { content: '<s>', lstrip: true } }),
      'token "<s>" has lstrip',
    ],
    [
      'a token that is none',
      fileOf('tokenizer_config.json', { bos_token: 3 }),
      'bos_token is 3, not a token',
    ],
    [
      'an impossible id',
      fileOf('tokenizer_config.json', { added_tokens_decoder: { x: '<s>' } }),
      'token "<s>" has the impossible id',
    ],
  ])('refuses %s', (_name, files, message) => {
    expect(() => Tokenizer.fromFiles(files)).toThrow(TokenizerError);
    expect(() => Tokenizer.fromFiles(files)).toThrow(message);
  });

  it('names the directory when it holds no model', () => {
    expect(() => Tokenizer.fromDirectory('/nonexistent')).toThrow('/nonexistent/tokenizer.model: is missing');
  });
});
