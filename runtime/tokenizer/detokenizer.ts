// Text of an answer while its tokens arrive: what push and flush give, concatenated, is decode(all ids, skipSpecialTokens) however the ids
// were split. Memory is bounded: the beginning of one character.

import { PieceDecoder } from './piece-decoder.ts';
import { withoutLeadingSpace } from './tokenizer.ts';
import type { Tokenizer } from './tokenizer.ts';

export class Detokenizer {
  readonly #tokenizer: Tokenizer;
  /** The segment that is being written; a standalone token ends it. */
  #segment: PieceDecoder | undefined;
  #segmentHasText = false;
  #hasEarlierSegments = false;

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  /** The text that these ids make certain. Ids that are no token (padding of the model's vocabulary) have none. */
  push(ids: readonly number[]): string {
    const { vocabulary } = this.#tokenizer;
    let text = '';
    for (const id of ids) {
      if (this.#segmentHasText && this.#segment?.settled === true) {
        const plain = vocabulary.plainText(id);
        if (plain !== '') {
          text += plain;
          continue;
        }
      }
      if (!vocabulary.has(id)) continue;
      switch (vocabulary.kind(id)) {
        case 'special':
        case 'both':
          break;
        case 'standalone':
          text += this.#pushStandalone(vocabulary.text(id));
          break;
        case 'piece':
          text += this.#pushPiece(vocabulary.text(id));
      }
    }
    return text;
  }

  /** The rest, at the end of the answer: a character that never became whole is U+FFFD per byte. The detokenizer starts anew. */
  flush(): string {
    let text = '';
    if (this.#segment !== undefined) {
      text = this.#join(this.#segment.flush());
      if (!this.#segmentHasText && this.#hasEarlierSegments) text += ' ';
    }
    this.#segment = undefined;
    this.#segmentHasText = false;
    this.#hasEarlierSegments = false;
    return text;
  }

  #pushPiece(piece: string): string {
    if (this.#segment !== undefined) return this.#join(this.#segment.push(piece));
    this.#segment = new PieceDecoder(this.#tokenizer.vocabulary);
    return this.#join(this.#segment.push(withoutLeadingSpace(piece)));
  }

  #pushStandalone(token: string): string {
    let text = this.#segment === undefined ? '' : this.#join(this.#segment.flush());
    if (this.#segmentHasText || this.#hasEarlierSegments) text += ' ';
    this.#segment = undefined;
    this.#segmentHasText = false;
    this.#hasEarlierSegments = true;
    return text + token;
  }

  /** Segments are joined by a space; one without text takes none unless it is the last. */
  #join(text: string): string {
    if (text === '') return '';
    const first = !this.#segmentHasText;
    this.#segmentHasText = true;
    return first && this.#hasEarlierSegments ? ` ${text}` : text;
  }
}
