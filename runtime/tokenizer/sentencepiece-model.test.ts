import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { describe, expect, it } from 'vitest';
import { BpeEncoder } from './bpe.ts';
import { parseSentencePieceModel } from './sentencepiece-model.ts';
import { TokenizerError } from './tokenizer-error.ts';

type PieceRow = readonly [text: string, score: number, type: number];

const NORMAL = 1;
const UNKNOWN = 2;
const USER_DEFINED = 4;
const UNUSED = 5;
const UNK: PieceRow = ['<unk>', 0, UNKNOWN];

interface Options {
  modelType?: number;
  charsmap?: Uint8Array;
  dummyPrefix?: boolean;
  removeExtra?: boolean;
  unknownId?: number;
}

function write(pieces: readonly PieceRow[], options: Options = {}): Uint8Array {
  const writer = new BinaryWriter();
  for (const [text, score, type] of pieces)
    writer
      .tag(1, WireType.LengthDelimited)
      .fork()
      .tag(1, WireType.LengthDelimited)
      .string(text)
      .tag(2, WireType.Bit32)
      .float(score)
      .tag(3, WireType.Varint)
      .int32(type)
      .join();
  writer
    .tag(2, WireType.LengthDelimited)
    .fork()
    .tag(3, WireType.Varint)
    .int32(options.modelType ?? 2)
    .tag(40, WireType.Varint)
    .int32(options.unknownId ?? 0)
    .join();
  writer
    .tag(3, WireType.LengthDelimited)
    .fork()
    .tag(2, WireType.LengthDelimited)
    .bytes(options.charsmap ?? new Uint8Array(0));
  writer
    .tag(3, WireType.Varint)
    .bool(options.dummyPrefix ?? false)
    .tag(4, WireType.Varint)
    .bool(options.removeExtra ?? false)
    .join();
  return writer.finish();
}

function encode(text: string, pieces: readonly PieceRow[], options?: Options): string[] {
  const model = parseSentencePieceModel(write(pieces, options));
  return new BpeEncoder(model, new Set()).encode(text).map((id) => model.pieces[id]!.text);
}

const letters = (text: string): PieceRow[] => text.split('').map((letter, i) => [letter, -100 - i, NORMAL]);

describe('parseSentencePieceModel', () => {
  it.each<[string, Uint8Array, string]>([
    ['no pieces', write([]), 'holds no pieces'],
    ['a unigram model', write([UNK], { modelType: 1 }), 'model type unigram; BPE alone'],
    ['text normalization', write([UNK], { charsmap: new Uint8Array(4) }), 'precompiled_charsmap'],
    [
      'an unknown piece that is none',
      write([UNK, ...letters('a')], { unknownId: 1 }),
      'no piece of type unknown at unk_id 1',
    ],
    ['an unknown type', write([UNK, ['a', 0, 9]]), 'piece "a" has an unknown type'],
    ['a score that is no number', write([UNK, ['a', Number.NaN, NORMAL]]), 'score NaN'],
    ['a byte piece that names no byte', write([UNK, ['<0xZZ>', 0, 6]]), 'byte piece'],
  ])('refuses %s', (_name, bytes, message) => {
    expect(() => parseSentencePieceModel(bytes)).toThrow(TokenizerError);
    expect(() => parseSentencePieceModel(bytes)).toThrow(message);
  });

  it('answers any cut of a model with a model or a TokenizerError', () => {
    const whole = write([UNK, ...letters('abc')]);
    for (let end = 0; end < whole.length; end++) {
      try {
        parseSentencePieceModel(whole.subarray(0, end));
      } catch (error) {
        expect(error).toBeInstanceOf(TokenizerError);
      }
    }
    expect(() => parseSentencePieceModel(whole.subarray(0, 10))).toThrow(TokenizerError);
  });
});

describe('BpeEncoder', () => {
  it.each<[string, string, PieceRow[], Options | undefined, string[]]>([
    [
      'merges the best pair first',
      'abc',
      [...letters('abc'), ['ab', -2, NORMAL], ['bc', -1, NORMAL]],
      undefined,
      ['a', 'bc'],
    ],
    ['merges the left pair on ties', 'aaa', [...letters('a'), ['aa', -1, NORMAL]], undefined, ['aa', 'a']],
    [
      'keeps user-defined pieces whole',
      'ab',
      [...letters('ab'), ['b', 0, USER_DEFINED], ['ab', -1, NORMAL]],
      undefined,
      ['a', 'b'],
    ],
    [
      'takes the longest user-defined piece',
      '<<a>',
      [...letters('<a>'), ['<a', 0, USER_DEFINED], ['<a>', 0, USER_DEFINED]],
      undefined,
      ['<', '<a>'],
    ],
    [
      'splits an unused piece again',
      'abc',
      [...letters('abc'), ['ab', -1, UNUSED], ['abc', -2, UNUSED]],
      undefined,
      ['a', 'b', 'c'],
    ],
    ['makes one unknown of a run', 'xyazz', [...letters('a')], undefined, ['<unk>', 'a', '<unk>']],
    ['adds the dummy prefix', 'a a', [...letters('▁a')], { dummyPrefix: true }, ['▁', 'a', '▁', 'a']],
    ['removes extra spaces', '  a   a ', [...letters('▁a')], { removeExtra: true }, ['a', '▁', 'a']],
    ['removes a literal ▁ at the end alike', 'a ▁', letters('▁a'), { removeExtra: true }, ['a']],
    ['keeps spaces otherwise', ' a ', [...letters('▁a')], undefined, ['▁', 'a', '▁']],
    ['gives no text no pieces', '   ', [...letters('▁a')], { dummyPrefix: true, removeExtra: true }, []],
  ])('%s', (_name, text, pieces, options, expected) => {
    expect(encode(text, [UNK, ...pieces], options)).toEqual(expected);
  });

  it('spells excluded pieces with others', () => {
    const model = parseSentencePieceModel(
      write([UNK, ...letters('<i>'), ['<i>', 0, USER_DEFINED], ['<i', -1, NORMAL]]),
    );
    expect(new BpeEncoder(model, new Set([4])).encode('<i>')).toEqual([5, 3]);
    expect(new BpeEncoder(model, new Set()).encode('<i>')).toEqual([4]);
  });
});
