// Byte-pair encoding as sentencepiece does it: the text is cut into characters (and user-defined pieces, which stay whole); then, of all
// neighbours whose concatenation is a piece, the pair with the highest score merges first, left-most on ties, until none is left.
// Candidates wait in a heap and symbols in a linked list: O(n log n). A candidate is stale when one of its symbols has merged since.

import { PrefixTrie } from './prefix-trie.ts';
import { SPACE_SYMBOL } from './sentencepiece-model.ts';
import type { SentencePieceModel } from './sentencepiece-model.ts';

const NONE = -1;
/** A word that is cached has at most this many UTF-16 units, and the cache at most this many words. */
const MAX_CACHED_LENGTH = 64;
const MAX_CACHED_WORDS = 10_000;

interface Candidate {
  readonly score: number;
  readonly left: number;
  readonly right: number;
  /** UTF-16 units of both symbols when the pair was found. */
  readonly length: number;
}

export class BpeEncoder {
  readonly #model: SentencePieceModel;
  /** Pieces that text may become: normal, user-defined and unused ones that are not excluded. */
  readonly #pieces = new Map<string, number>();
  readonly #byteIds: readonly (number | undefined)[];
  readonly #userDefined: PrefixTrie;
  readonly #maxLength: number;
  /** The ids of words met before; undefined when a text cannot be encoded word by word. */
  readonly #words: Map<string, readonly number[]> | undefined;

  /** Never gives an id of excludedIds; their text is spelled with other pieces. */
  constructor(model: SentencePieceModel, excludedIds: ReadonlySet<number>) {
    this.#model = model;
    const userDefined: string[] = [];
    const byteIds: (number | undefined)[] = [];
    let maxLength = 0;
    model.pieces.forEach(({ text, type }, id) => {
      if (type === 'byte') byteIds[Number.parseInt(text.slice(3, 5), 16)] = id;
      if (excludedIds.has(id) || (type !== 'normal' && type !== 'user_defined' && type !== 'unused')) return;
      if (type === 'user_defined') userDefined.push(text);
      this.#pieces.set(text, id);
      maxLength = Math.max(maxLength, text.length);
    });
    this.#byteIds = byteIds;
    this.#userDefined = new PrefixTrie(userDefined);
    this.#maxLength = maxLength;
    this.#words = wordsStandAlone(model) ? new Map() : undefined;
  }

  encode(text: string): number[] {
    const normalized = normalize(text, this.#model);
    if (this.#words === undefined) return this.#encode(normalized);
    const ids: number[] = [];
    for (let start = 0; start < normalized.length;) {
      const end = endOfWord(normalized, start);
      for (const id of this.#encodeWord(normalized.slice(start, end), this.#words)) ids.push(id);
      start = end;
    }
    return ids;
  }

  #encodeWord(word: string, known: Map<string, readonly number[]>): readonly number[] {
    const found = known.get(word);
    if (found !== undefined) return found;
    const ids = this.#encode(word);
    if (word.length > MAX_CACHED_LENGTH) return ids;
    if (known.size >= MAX_CACHED_WORDS) known.clear();
    known.set(word, ids);
    return ids;
  }

  #encode(normalized: string): number[] {
    const symbols = this.#split(normalized);
    const unusedParts = this.#merge(symbols);
    const ids: number[] = [];
    let unknownRun = false;
    for (let i = 0; i !== NONE && i < symbols.count; i = symbols.next[i]!) {
      const piece = symbols.text.slice(symbols.start[i], symbols.end[i]);
      unknownRun = this.#emit(piece, unusedParts, unknownRun, ids);
    }
    return ids;
  }

  #split(text: string): Symbols {
    const symbols = new Symbols(text);
    for (let start = 0; start < text.length;) {
      const whole = this.#userDefined.longestMatch(text, start);
      const length = whole > 0 ? whole : text.codePointAt(start)! > 0xffff ? 2 : 1;
      symbols.append(start, start + length, whole > 0);
      start += length;
    }
    return symbols;
  }

  /** Merges in place; gives, for each unused piece that came up, the two parts it was merged from. */
  #merge(symbols: Symbols): Map<string, readonly [string, string]> {
    const unusedParts = new Map<string, readonly [string, string]>();
    const heap = new CandidateHeap();
    const consider = (left: number, right: number): void => {
      if (left === NONE || right === NONE || symbols.frozen[left] || symbols.frozen[right]) return;
      const length = symbols.end[right]! - symbols.start[left]!;
      if (length > this.#maxLength) return;
      const text = symbols.text.slice(symbols.start[left], symbols.end[right]);
      const id = this.#pieces.get(text);
      if (id === undefined) return;
      const piece = this.#model.pieces[id]!;
      if (piece.type === 'unused')
        unusedParts.set(text, [
          symbols.text.slice(symbols.start[left], symbols.end[left]),
          symbols.text.slice(symbols.start[right], symbols.end[right]),
        ]);
      heap.push({ score: piece.score, left, right, length });
    };

    for (let i = 1; i < symbols.count; i++) consider(i - 1, i);
    for (let best = heap.pop(); best !== undefined; best = heap.pop()) {
      const { left, right, length } = best;
      if (symbols.length(left) === 0 || symbols.length(right) === 0) continue;
      if (symbols.length(left) + symbols.length(right) !== length) continue;
      symbols.join(left, right);
      consider(symbols.previous[left]!, left);
      consider(left, symbols.next[left]!);
    }
    return unusedParts;
  }

  /** Appends the ids of one final symbol; returns whether it was unknown: a run of unknown symbols is one unknown id. */
  #emit(
    piece: string,
    unusedParts: ReadonlyMap<string, readonly [string, string]>,
    unknownRun: boolean,
    ids: number[],
  ): boolean {
    const id = this.#pieces.get(piece);
    if (id !== undefined) {
      const parts = this.#model.pieces[id]!.type === 'unused' ? unusedParts.get(piece) : undefined;
      if (parts === undefined) {
        ids.push(id);
        return false;
      }
      return this.#emit(parts[1], unusedParts, this.#emit(parts[0], unusedParts, unknownRun, ids), ids);
    }
    if (this.#model.byteFallback) {
      for (const byte of new TextEncoder().encode(piece))
        ids.push(this.#byteIds[byte] ?? this.#model.unknownId);
    } else if (!unknownRun) {
      ids.push(this.#model.unknownId);
    }
    return true;
  }
}

/**
 * True when no merge can reach across the beginning of a word: then a text's ids are its words' ids. Unknown and unused pieces would carry state
 * from one word to the next.
 */
function wordsStandAlone({ pieces, byteFallback }: SentencePieceModel): boolean {
  const acrossWords = new RegExp(`[^${SPACE_SYMBOL}]${SPACE_SYMBOL}`);
  return byteFallback && pieces.every(({ text, type }) => type !== 'unused' && !acrossWords.test(text));
}

/** Where the word that starts here ends: before the first ▁ that follows something else. */
function endOfWord(text: string, start: number): number {
  let at = start;
  while (text[at] === SPACE_SYMBOL) at++;
  const next = text.indexOf(SPACE_SYMBOL, at);
  return next < 0 ? text.length : next;
}

/** The text as pieces spell it: spaces escaped, dropped or added as the model says. */
function normalize(text: string, model: SentencePieceModel): string {
  // Lone surrogates have no UTF-8; they become U+FFFD, as in any encoder.
  let normalized = text.replace(/\p{Surrogate}/gu, '\uFFFD');
  if (model.removeExtraWhitespaces) normalized = normalized.replace(/^ +/, '').replace(/ {2,}/g, ' ');
  if (normalized === '') return '';
  if (model.addDummyPrefix) normalized = ` ${normalized}`;
  if (model.escapeWhitespaces) normalized = normalized.replaceAll(' ', SPACE_SYMBOL);
  if (!model.removeExtraWhitespaces) return normalized;
  // At the end a literal ▁ is taken for a space, as sentencepiece does.
  const space = model.escapeWhitespaces ? SPACE_SYMBOL : ' ';
  let end = normalized.length;
  while (normalized[end - 1] === space) end--;
  return normalized.slice(0, end);
}

/** Runs of text in a doubly linked list over arrays; a merged-away symbol is empty. */
class Symbols {
  readonly text: string;
  readonly start: number[] = [];
  readonly end: number[] = [];
  readonly previous: number[] = [];
  readonly next: number[] = [];
  readonly frozen: boolean[] = [];

  constructor(text: string) {
    this.text = text;
  }

  get count(): number {
    return this.start.length;
  }

  append(start: number, end: number, frozen: boolean): void {
    const index = this.count;
    if (index > 0) this.next[index - 1] = index;
    this.start.push(start);
    this.end.push(end);
    this.previous.push(index - 1);
    this.next.push(NONE);
    this.frozen.push(frozen);
  }

  length(index: number): number {
    return this.end[index]! - this.start[index]!;
  }

  join(left: number, right: number): void {
    this.end[left] = this.end[right]!;
    this.end[right] = this.start[right]!;
    const next = this.next[right]!;
    this.next[left] = next;
    if (next !== NONE) this.previous[next] = left;
  }
}

/** A binary heap: highest score first, then left-most. */
class CandidateHeap {
  readonly #items: Candidate[] = [];

  push(item: Candidate): void {
    const items = this.#items;
    let at = items.length;
    items.push(item);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(item, items[parent]!)) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = item;
  }

  pop(): Candidate | undefined {
    const items = this.#items;
    const top = items[0];
    const last = items.pop();
    if (top === undefined || last === undefined || items.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && isBefore(items[child + 1]!, items[child]!)) child++;
      if (!isBefore(items[child]!, last)) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = last;
    return top;
  }
}

function isBefore(a: Candidate, b: Candidate): boolean {
  return a.score > b.score || (a.score === b.score && a.left < b.left);
}
