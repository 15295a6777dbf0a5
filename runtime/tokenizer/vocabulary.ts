import type { AddedTokens } from './added-tokens.ts';
import { SPACE_SYMBOL, type SentencePieceModel } from './sentencepiece-model.ts';

/**
 * How decoding treats a token: pieces decode together; a special token is dropped when special tokens are skipped; a standalone token is an
 * added one without a role, which always stays and cuts the text in two. `both`: a special token that stands alone when it is not skipped.
 */
export type TokenKind = 'piece' | 'special' | 'standalone' | 'both';

/** The ids and texts of the sentencepiece model and the added tokens together. */
export class Vocabulary {
  readonly model: SentencePieceModel;
  readonly added: AddedTokens;
  /** Highest id + 1. */
  readonly size: number;
  readonly #addedTexts = new Map<number, string>();
  readonly #pieceIds: ReadonlyMap<string, number>;
  /** By id, of those that were asked for; '' where it depends on more. */
  readonly #plainTexts: string[] = [];

  constructor(model: SentencePieceModel, added: AddedTokens, pieceIds: ReadonlyMap<string, number>) {
    this.model = model;
    this.added = added;
    this.#pieceIds = pieceIds;
    let size = model.pieces.length;
    for (const [text, id] of added.ids) {
      this.#addedTexts.set(id, text);
      size = Math.max(size, id + 1);
    }
    this.size = size;
  }

  has(id: number): boolean {
    return this.#addedTexts.has(id) || this.model.pieces[id] !== undefined;
  }

  /** The token's text (▁ for spaces); throws RangeError when there is no such token. */
  text(id: number): string {
    const text = this.#addedTexts.get(id) ?? this.model.pieces[id]?.text;
    if (text === undefined)
      throw new RangeError(`token id ${id} is not in the vocabulary of ${this.size} tokens`);
    return text;
  }

  /** What the token adds inside a text; '' for one that is not simply text: a byte, a control token, one that stands alone. */
  plainText(id: number): string {
    if (id >= this.size) return '';
    return (this.#plainTexts[id] ??= this.#isPlain(id) ? this.text(id).replaceAll(SPACE_SYMBOL, ' ') : '');
  }

  #isPlain(id: number): boolean {
    if (!this.has(id) || this.kind(id) !== 'piece') return false;
    const type = this.model.pieces[this.pieceId(this.text(id))]?.type;
    return type !== undefined && type !== 'byte' && type !== 'control' && type !== 'unknown';
  }

  kind(id: number): TokenKind {
    if (this.added.specialIds.has(id)) return id >= this.model.pieces.length ? 'both' : 'special';
    return this.#addedTexts.has(id) ? 'standalone' : 'piece';
  }

  /** The sentencepiece id of a piece's text; the unknown id when there is none. */
  pieceId(text: string): number {
    return this.#pieceIds.get(text) ?? this.model.unknownId;
  }

  /** The id of a token by its text, added tokens first. */
  idOf(text: string): number | undefined {
    return this.added.ids.get(text) ?? this.#pieceIds.get(text);
  }
}

/** Text -> id over all pieces; of pieces with one text the first has it. */
export function indexPieces(model: SentencePieceModel): ReadonlyMap<string, number> {
  const ids = new Map<string, number>();
  model.pieces.forEach(({ text }, id) => {
    if (!ids.has(text)) ids.set(text, id);
  });
  return ids;
}
