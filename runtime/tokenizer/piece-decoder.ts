// Sentencepiece's decoding of a run of pieces, one piece at a time. Byte pieces collect until they make a character; bytes that cannot
// become one turn into U+FFFD each, when that is certain or the run of byte pieces ends.

import { SPACE_SYMBOL } from './sentencepiece-model.ts';
import type { Vocabulary } from './vocabulary.ts';

const REPLACEMENT = '\uFFFD';
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export class PieceDecoder {
  readonly #vocabulary: Vocabulary;
  /** At most 3: the beginning of a character. */
  #bytes: number[] = [];
  #wroteText = false;
  #droppedSpace = false;

  constructor(vocabulary: Vocabulary) {
    this.#vocabulary = vocabulary;
  }

  /** What a piece says no longer depends on what came before it. */
  get settled(): boolean {
    return this.#wroteText && this.#bytes.length === 0;
  }

  /** The text that is certain after this piece; text is how the piece is spelled here, which may differ from its entry. */
  push(text: string): string {
    const { model } = this.#vocabulary;
    const id = this.#vocabulary.pieceId(text);
    const type = model.pieces[id]!.type;
    if (type === 'byte') return this.#pushByte(Number.parseInt(text.slice(3, 5), 16));
    const ended = this.flush();
    if (type === 'control') return ended;
    if (type === 'unknown')
      return ended + this.#write(text === model.pieces[id]!.text ? model.unknownSurface : text);
    return ended + this.#write(this.#surface(text));
  }

  /** Ends the run of byte pieces. */
  flush(): string {
    if (this.#bytes.length === 0) return '';
    const rest = REPLACEMENT.repeat(this.#bytes.length);
    this.#bytes = [];
    return this.#write(rest);
  }

  #surface(text: string): string {
    const { addDummyPrefix, removeExtraWhitespaces } = this.#vocabulary.model;
    const atStart = !this.#wroteText && !this.#droppedSpace;
    let piece = text;
    if (atStart && (addDummyPrefix || removeExtraWhitespaces) && piece.startsWith(SPACE_SYMBOL)) {
      piece = piece.slice(SPACE_SYMBOL.length);
      // The dummy prefix is one space; where extra spaces are removed, all leading ones go.
      this.#droppedSpace = !removeExtraWhitespaces;
    }
    return piece.replaceAll(SPACE_SYMBOL, ' ');
  }

  #write(text: string): string {
    if (text !== '') this.#wroteText = true;
    return text;
  }

  #pushByte(byte: number): string {
    if (byte < 0x80 && this.#bytes.length === 0) return this.#write(String.fromCharCode(byte));
    this.#bytes.push(byte);
    let text = '';
    while (this.#bytes.length > 0) {
      const wanted = characterLength(this.#bytes[0]!);
      const trail = this.#bytes.slice(1, wanted);
      const broken = wanted === 0 || trail.some((value) => (value & 0xc0) !== 0x80);
      if (!broken && this.#bytes.length < wanted) break;
      const character = broken ? undefined : decodeCharacter(this.#bytes.slice(0, wanted));
      text += character ?? REPLACEMENT;
      this.#bytes.splice(0, character === undefined ? 1 : wanted);
    }
    return this.#write(text);
  }
}

/** Bytes of the character that starts with this one; 0 when none does. */
function characterLength(lead: number): number {
  if (lead < 0x80) return 1;
  if ((lead & 0xe0) === 0xc0) return 2;
  if ((lead & 0xf0) === 0xe0) return 3;
  return (lead & 0xf8) === 0xf0 ? 4 : 0;
}

/** Undefined for overlong forms, surrogates and values beyond Unicode. */
function decodeCharacter(bytes: readonly number[]): string | undefined {
  try {
    return utf8.decode(Uint8Array.from(bytes));
  } catch {
    return undefined;
  }
}
