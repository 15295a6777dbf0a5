// The published slow LlamaTokenizer (legacy behaviour): a sentencepiece model plus added tokens. Two ways to encode: `encode` for text
// from outside, in which nothing is a control token, and `encodeWithControlTokens`, which is the published behaviour.

import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAddedTokens } from './added-tokens.ts';
import { BpeEncoder } from './bpe.ts';
import { PieceDecoder } from './piece-decoder.ts';
import { PrefixTrie } from './prefix-trie.ts';
import { parseSentencePieceModel, SPACE_SYMBOL } from './sentencepiece-model.ts';
import { TokenizerError } from './tokenizer-error.ts';
import { indexPieces, Vocabulary } from './vocabulary.ts';

/** The files that make a tokenizer; only the first is required. */
export const TOKENIZER_FILES: readonly string[] = [
  'tokenizer.model',
  'added_tokens.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
];

/** What the prompt template is made of: never the outcome of encoding text, even where the files do not list them as added tokens. */
const TEMPLATE_TOKENS = ['<|im_start|>', '<|im_end|>', '<img>', '</img>', '<IMG_CONTEXT>'];

export class Tokenizer {
  /** Hex SHA-256 over the tokenizer's files. */
  readonly fingerprint: string;
  readonly vocabulary: Vocabulary;
  readonly #plain: BpeEncoder;
  readonly #published: BpeEncoder;
  readonly #addedTexts: PrefixTrie;

  /** Parses the files by name (see TOKENIZER_FILES; others are ignored); throws TokenizerError. */
  static fromFiles(files: ReadonlyMap<string, Uint8Array>): Tokenizer {
    return new Tokenizer(files);
  }

  /** Reads the tokenizer's files of a checkpoint directory; throws TokenizerError. */
  static fromDirectory(directory: string): Tokenizer {
    return Tokenizer.fromFiles(readTokenizerFiles(directory));
  }

  private constructor(files: ReadonlyMap<string, Uint8Array>) {
    const modelBytes = files.get('tokenizer.model');
    if (modelBytes === undefined) throw new TokenizerError('tokenizer.model', 'is missing');
    const model = parseSentencePieceModel(modelBytes);
    const pieceIds = indexPieces(model);
    const added = parseAddedTokens(files, pieceIds, model.pieces.length);
    this.vocabulary = new Vocabulary(model, added, pieceIds);
    this.#published = new BpeEncoder(model, new Set());
    this.#plain = new BpeEncoder(model, controlIds(this.vocabulary));
    this.#addedTexts = new PrefixTrie(added.ids.keys());
    this.fingerprint = fingerprintOf(files);
  }

  /** Highest token id + 1. */
  get vocabSize(): number {
    return this.vocabulary.size;
  }

  /** The ids of text from outside: whatever it holds, none is the id of an added, special or control token. */
  encode(text: string): number[] {
    return this.#plain.encode(text);
  }

  /** The ids that the published tokenizer gives: texts of added tokens become those tokens. For text that a trusted side wrote. */
  encodeWithControlTokens(text: string): number[] {
    const { added } = this.vocabulary;
    const ids: number[] = [];
    if (added.addBosToken && added.bosTokenId !== undefined) ids.push(added.bosTokenId);
    let chunkStart = 0;
    const endChunk = (end: number): void => {
      if (end > chunkStart)
        for (const id of this.#published.encode(text.slice(chunkStart, end))) ids.push(id);
    };
    for (let at = 0; at < text.length;) {
      const length = this.#addedTexts.longestMatch(text, at);
      if (length === 0) {
        at++;
        continue;
      }
      endChunk(at);
      ids.push(added.ids.get(text.slice(at, at + length))!);
      at += length;
      chunkStart = at;
    }
    endChunk(text.length);
    return ids;
  }

  /**
   * The text of ids as the published tokenizer gives it: standalone tokens cut it into segments, each loses one leading ▁, and segments are
   * joined by a space. Throws RangeError naming an id that is no token.
   */
  decode(ids: readonly number[], options: { readonly skipSpecialTokens: boolean }): string {
    const segments: string[] = [];
    let segment: number[] = [];
    for (const id of ids) {
      const kind = this.vocabulary.kind(id);
      if (options.skipSpecialTokens && (kind === 'special' || kind === 'both')) continue;
      if (kind === 'piece' || kind === 'special') {
        segment.push(id);
        continue;
      }
      const text = this.#decodeSegment(segment);
      if (text !== '') segments.push(text);
      segment = [];
      segments.push(this.vocabulary.text(id));
    }
    // An empty text at the end still takes its joining space.
    if (segment.length > 0) segments.push(this.#decodeSegment(segment));
    return segments.join(' ');
  }

  /** The id of a control token by its text; throws TokenizerError when the tokenizer has none. */
  controlTokenId(text: string): number {
    const id = this.vocabulary.idOf(text);
    if (id === undefined) throw new TokenizerError('tokenizer.model', `has no token ${JSON.stringify(text)}`);
    return id;
  }

  #decodeSegment(ids: readonly number[]): string {
    let decoded = '';
    let run = new PieceDecoder(this.vocabulary);
    let pending = '';
    let afterSpecial = false;
    ids.forEach((id, index) => {
      const text = this.vocabulary.text(id);
      if (this.vocabulary.kind(id) === 'special') {
        // The published code puts this space before the run that precedes the token, not after it.
        const space = !afterSpecial && index > 0 ? ' ' : '';
        decoded += space + pending + run.flush() + text;
        pending = '';
        run = new PieceDecoder(this.vocabulary);
        afterSpecial = true;
      } else {
        pending += run.push(index === 0 ? withoutLeadingSpace(text) : text);
        afterSpecial = false;
      }
    });
    return decoded + pending + run.flush();
  }
}

/** A piece at the start of a segment loses one leading ▁. */
export function withoutLeadingSpace(piece: string): string {
  return piece.startsWith(SPACE_SYMBOL) ? piece.slice(SPACE_SYMBOL.length) : piece;
}

/** The tokenizer's files that a directory has, by name. */
export function readTokenizerFiles(directory: string): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  for (const name of TOKENIZER_FILES) {
    const path = join(directory, name);
    if (!existsSync(path)) continue;
    try {
      files.set(name, readFileSync(path));
    } catch (cause) {
      throw new TokenizerError(path, `cannot be read: ${(cause as Error).message}`, { cause });
    }
  }
  if (!files.has('tokenizer.model'))
    throw new TokenizerError(join(directory, 'tokenizer.model'), 'is missing');
  return files;
}

function controlIds(vocabulary: Vocabulary): Set<number> {
  const ids = new Set([...vocabulary.added.ids.values(), ...vocabulary.added.specialIds]);
  // Text without any piece of its own must still have an id.
  ids.delete(vocabulary.model.unknownId);
  for (const text of TEMPLATE_TOKENS) {
    const id = vocabulary.idOf(text);
    if (id !== undefined) ids.add(id);
  }
  return ids;
}

function fingerprintOf(files: ReadonlyMap<string, Uint8Array>): string {
  const hash = createHash('sha256');
  for (const name of TOKENIZER_FILES) {
    const bytes = files.get(name);
    if (bytes !== undefined) hash.update(`${name} ${bytes.byteLength}\n`).update(bytes);
  }
  return hash.digest('hex');
}
