// tokenizer.model: the protobuf message sentencepiece.ModelProto, of which encoding and decoding need the pieces and a few flags.

import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { TokenizerError } from './tokenizer-error.ts';

export type PieceType = 'normal' | 'unknown' | 'control' | 'user_defined' | 'unused' | 'byte';

export interface Piece {
  readonly text: string;
  /** Higher merges first. */
  readonly score: number;
  readonly type: PieceType;
}

export interface SentencePieceModel {
  /** By id. */
  readonly pieces: readonly Piece[];
  readonly unknownId: number;
  /** What an unknown id decodes to. */
  readonly unknownSurface: string;
  /** Characters without a piece become the byte pieces of their UTF-8. */
  readonly byteFallback: boolean;
  /** A space is put before every text. */
  readonly addDummyPrefix: boolean;
  /** Leading, trailing and repeated spaces are dropped. */
  readonly removeExtraWhitespaces: boolean;
  /** Spaces are written ▁ in pieces. */
  readonly escapeWhitespaces: boolean;
}

/** What stands for a space in pieces. */
export const SPACE_SYMBOL = '▁';

const FILE = 'tokenizer.model';
const MAX_PIECES = 4_000_000;
const BPE = 2;
const PIECE_TYPES: Readonly<Record<number, PieceType>> = {
  1: 'normal',
  2: 'unknown',
  3: 'control',
  4: 'user_defined',
  5: 'unused',
  6: 'byte',
};

/** Parses tokenizer.model; throws TokenizerError when it is damaged or needs something else than byte-pair encoding of unchanged text. */
export function parseSentencePieceModel(bytes: Uint8Array): SentencePieceModel {
  try {
    return parseModel(new BinaryReader(bytes));
  } catch (cause) {
    if (cause instanceof TokenizerError) throw cause;
    throw new TokenizerError(FILE, `is not a sentencepiece model: ${(cause as Error).message}`, { cause });
  }
}

function parseModel(reader: BinaryReader): SentencePieceModel {
  const pieces: Piece[] = [];
  const trainer = {
    modelType: 1,
    byteFallback: false,
    unknownId: 0,
    unknownSurface: ' \u2047 ',
    suffixSpace: false,
  };
  const normalizer = {
    addDummyPrefix: true,
    removeExtraWhitespaces: true,
    escapeWhitespaces: true,
    charsmapBytes: 0,
  };
  const denormalizer = { ...normalizer };
  forEachField(reader, (field) => {
    if (field === 1) pieces.push(parsePiece(message(reader)));
    else if (field === 2) parseTrainer(message(reader), trainer);
    else if (field === 3) parseNormalizer(message(reader), normalizer);
    else if (field === 5) parseNormalizer(message(reader), denormalizer);
    else return false;
    if (pieces.length > MAX_PIECES) throw new TokenizerError(FILE, `has more than ${MAX_PIECES} pieces`);
    return true;
  });

  if (pieces.length === 0) throw new TokenizerError(FILE, 'holds no pieces');
  if (trainer.modelType !== BPE) {
    const name = { 1: 'unigram', 3: 'word', 4: 'char' }[trainer.modelType] ?? String(trainer.modelType);
    throw new TokenizerError(FILE, `has model type ${name}; BPE alone is supported`);
  }
  if (normalizer.charsmapBytes > 0 || denormalizer.charsmapBytes > 0)
    throw new TokenizerError(FILE, 'normalizes text (precompiled_charsmap); only identity is supported');
  if (trainer.suffixSpace)
    throw new TokenizerError(FILE, 'has treat_whitespace_as_suffix, which is not supported');
  const unknownId = trainer.unknownId;
  if (pieces[unknownId]?.type !== 'unknown')
    throw new TokenizerError(FILE, `has no piece of type unknown at unk_id ${unknownId}`);
  const { byteFallback, unknownSurface } = trainer;
  const { addDummyPrefix, removeExtraWhitespaces, escapeWhitespaces } = normalizer;
  return {
    pieces,
    unknownId,
    unknownSurface,
    byteFallback,
    addDummyPrefix,
    removeExtraWhitespaces,
    escapeWhitespaces,
  };
}

function parsePiece(reader: BinaryReader): Piece {
  let text = '';
  let score = 0;
  let typeNumber = 1;
  forEachField(reader, (field) => {
    if (field === 1) text = reader.string();
    else if (field === 2) score = reader.float();
    else if (field === 3) typeNumber = reader.int32();
    else return false;
    return true;
  });
  const type = PIECE_TYPES[typeNumber];
  if (type === undefined) throw new TokenizerError(FILE, `piece ${JSON.stringify(text)} has an unknown type`);
  if (Number.isNaN(score)) throw new TokenizerError(FILE, `piece ${JSON.stringify(text)} has the score NaN`);
  if (type === 'byte' && !/^<0x[0-9A-F]{2}>$/.test(text))
    throw new TokenizerError(FILE, `byte piece ${JSON.stringify(text)} is not of the form <0xNN>`);
  return { text, score, type };
}

function parseTrainer(
  reader: BinaryReader,
  trainer: {
    modelType: number;
    byteFallback: boolean;
    unknownId: number;
    unknownSurface: string;
    suffixSpace: boolean;
  },
): void {
  forEachField(reader, (field) => {
    if (field === 3) trainer.modelType = reader.int32();
    else if (field === 24) trainer.suffixSpace = reader.bool();
    else if (field === 35) trainer.byteFallback = reader.bool();
    else if (field === 40) trainer.unknownId = reader.int32();
    else if (field === 44) trainer.unknownSurface = reader.string();
    else return false;
    return true;
  });
}

function parseNormalizer(
  reader: BinaryReader,
  normalizer: {
    addDummyPrefix: boolean;
    removeExtraWhitespaces: boolean;
    escapeWhitespaces: boolean;
    charsmapBytes: number;
  },
): void {
  forEachField(reader, (field) => {
    if (field === 2) normalizer.charsmapBytes = reader.bytes().byteLength;
    else if (field === 3) normalizer.addDummyPrefix = reader.bool();
    else if (field === 4) normalizer.removeExtraWhitespaces = reader.bool();
    else if (field === 5) normalizer.escapeWhitespaces = reader.bool();
    else return false;
    return true;
  });
}

/** Calls read for every field; what read leaves unread (false) is skipped. */
function forEachField(reader: BinaryReader, read: (field: number) => boolean): void {
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (wireType === WireType.EndGroup || !read(field)) reader.skip(wireType, field);
  }
}

function message(reader: BinaryReader): BinaryReader {
  return new BinaryReader(reader.bytes());
}
