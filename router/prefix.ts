// Of which prompts' beginnings a replica is believed to hold the keys and values. Prompts are compared block by block, each block's
// hash continuing the one before, as an engine's prefix cache does it; the blocks are larger and the hash is not cryptographic, because a
// wrong belief costs no more than a prompt that is computed.

import { RecentMap } from './recent.ts';
import type { Work } from './request.ts';

/** Some engine blocks: finer ones would say little more, and each is remembered. */
export const PREFIX_BLOCK = 64;
/** About 1 MB a replica: a million tokens. */
const MOST_BLOCKS = 16_384;

/** The hash of each full block of a prompt. Equal hashes mean equal prompts from the start: tokens, pictures and cache salt. */
export function prefixBlocks({ tokenIds, pictures, cacheSalt }: Work): number[] {
  const blocks: number[] = [];
  const hash = new ChainedHash();
  hash.text(cacheSalt);
  let nextPicture = 0;
  for (let end = PREFIX_BLOCK; end <= tokenIds.length; end += PREFIX_BLOCK) {
    for (let at = end - PREFIX_BLOCK; at < end; at++) hash.number(tokenIds[at]!);
    // All pictures are the same tokens.
    while (nextPicture < pictures.length && pictures[nextPicture]!.offset < end)
      hash.text(pictures[nextPicture++]!.hash);
    blocks.push(hash.value);
  }
  return blocks;
}

/** Belief about one replica: it forgets what was used longest ago once it is full, and so does this. */
export class HeldPrefixes {
  readonly #blocks: RecentMap<number, true>;

  /** Tokens whose keys and values the replica has room for. */
  constructor(capacity: number) {
    this.#blocks = new RecentMap(Math.min(MOST_BLOCKS, Math.floor(capacity / PREFIX_BLOCK)));
  }

  /** The replica gets a prompt of these blocks: it will hold them. */
  placed(blocks: readonly number[]): void {
    // The beginning is what others share, so it is what goes last.
    for (const block of blocks.toReversed()) this.#blocks.set(block, true);
  }

  /** Tokens from the prompt's start that it holds. */
  hitTokens(blocks: readonly number[]): number {
    const missing = blocks.findIndex((block) => !this.#blocks.has(block));
    return (missing < 0 ? blocks.length : missing) * PREFIX_BLOCK;
  }
}

/** Two 32-bit FNV-1a lanes, of which 53 bits are used: one in a billion prompts is taken for another one. */
class ChainedHash {
  #a = 0x811c9dc5;
  #b = 0x9747b28c;

  get value(): number {
    return (this.#a >>> 0) * 0x20_0000 + (this.#b & 0x1f_ffff);
  }

  number(value: number): void {
    this.#a = Math.imul(this.#a ^ value, 0x01000193);
    this.#b = Math.imul(this.#b ^ value, 0x5bd1e995);
    this.#b ^= this.#b >>> 15;
  }

  text(text: string): void {
    for (let at = 0; at < text.length; at++) this.number(text.charCodeAt(at));
    this.number(-1);
  }
}
