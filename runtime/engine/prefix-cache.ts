// Which of a sequence's leading blocks are in the KV cache already. A block is known by the hash of all that it depends on (block-hash.ts);
// a sequence that starts takes over the longest run of its leading blocks that is there and computes the rest. At least its last token is
// always computed: its logits are what is asked for.

import { blockHash, rootHash } from './block-hash.ts';
import type { BlockManager } from './block-manager.ts';
import type { Sequence } from './sequence.ts';

/** Leading blocks of a sequence that are in the cache, in order. Valid until a block is allocated. */
export interface PrefixHit {
  readonly blocks: readonly number[];
  /** Tokens in them. */
  readonly tokens: number;
  /** Those that no sequence refers to: taking them over uses up as many free blocks. */
  readonly numIdle: number;
}

/** Tokens of waiting sequences hashed between two steps at most: a few milliseconds. */
const MOST_HASHED_TOKENS = 16_384;

/** A sequence waits for blocks that another computes when they are at least this share of what it would compute in the step otherwise. */
const WORTH_WAITING = 1 / 4;

const NO_HIT: PrefixHit = { blocks: [], tokens: 0, numIdle: 0 };

/** Finds and publishes full blocks. Switched off it never finds one and hashes nothing. */
export class PrefixCache {
  readonly #blocks: BlockManager;
  readonly #enabled: boolean;
  #promptTokens = 0;
  #hitTokens = 0;
  /** Content of the blocks that sequences of the step being planned are on their way to fill. */
  readonly #coming = new Set<string>();
  /** Tokens that may still be hashed to answer uncachedTokens before the next step. */
  #hashable = MOST_HASHED_TOKENS;

  constructor(blocks: BlockManager, enabled: boolean) {
    this.#blocks = blocks;
    this.#enabled = enabled;
  }

  /** Prompt tokens of all sequences that have started, each counted once. */
  get promptTokens(): number {
    return this.#promptTokens;
  }

  /** Those of promptTokens that were in the cache. */
  get hitTokens(): number {
    return this.#hitTokens;
  }

  beginStep(): void {
    this.#hashable = MOST_HASHED_TOKENS;
    this.#coming.clear();
  }

  /** The step being planned computes tokens of the sequence: its known tokens will be in the cache, block by block. */
  comes(sequence: Sequence): void {
    if (!this.#enabled || sequence.numUncomputed <= 1) return;
    const hashes = this.#hashes(sequence);
    for (
      let index = Math.floor(sequence.numComputed / this.#blocks.blockSize);
      index < hashes.length;
      index += 1
    ) {
      this.#coming.add(hashes[index]!);
    }
  }

  /**
   * Whether a waiting sequence does better to start in a later step: what it would compute next is being computed already. In every step in which this holds another
   * sequence gets on with those blocks; when that one ends or is preempted it holds no longer. budget: tokens that it could compute now.
   */
  shouldWait(sequence: Sequence, hit: PrefixHit, budget: number): boolean {
    const most = this.#most(sequence);
    if (this.#coming.size === 0 || hit.blocks.length >= most) return false;
    const hashes = this.#hashes(sequence);
    let end = hit.blocks.length;
    while (end < most && this.#coming.has(hashes[end]!)) end += 1;
    const saved = end * this.#blocks.blockSize - hit.tokens;
    return saved > 0 && saved >= WORTH_WAITING * Math.min(sequence.numTokens - hit.tokens, budget);
  }

  /** What a waiting sequence would take over if it started now. */
  find(sequence: Sequence): PrefixHit {
    const most = this.#most(sequence);
    if (most === 0) return NO_HIT;
    const hashes = this.#hashes(sequence);
    const blocks: number[] = [];
    let numIdle = 0;
    while (blocks.length < most) {
      const block = this.#blocks.blockOf(hashes[blocks.length] ?? '');
      if (block === undefined) break;
      blocks.push(block);
      if (this.#blocks.isIdle(block)) numIdle += 1;
    }
    return { blocks, tokens: blocks.length * this.#blocks.blockSize, numIdle };
  }

  /** Starts a sequence behind the blocks that were found for it. */
  adopt(sequence: Sequence, hit: PrefixHit): void {
    for (const block of hit.blocks) this.#blocks.share(sequence.blockTable, block);
    sequence.numComputed = hit.tokens;
    sequence.numShared = hit.blocks.length;
    if (sequence.knownToRanks) return; // preempted before: it was counted when it started first
    sequence.cachedTokens = hit.tokens;
    this.#promptTokens += sequence.promptLength;
    this.#hitTokens += hit.tokens;
  }

  /**
   * Lets others find the blocks that the sequence has filled with tokens that are known. Call when the step that fills them is planned, plans run in order, and when a
   * token has come that was under way then.
   */
  publish(sequence: Sequence): void {
    if (!this.#enabled) return;
    const known = Math.min(sequence.numComputed, sequence.numTokens);
    const end = Math.floor(known / this.#blocks.blockSize);
    if (end <= sequence.numShared) return;
    const hashes = this.#hashes(sequence);
    for (let index = sequence.numShared; index < end; index += 1) {
      this.#blocks.setHash(sequence.blockTable[index] ?? -1, hashes[index] ?? '');
    }
    sequence.numShared = end;
  }

  /**
   * Prompt tokens that a waiting sequence would have to compute if it started now. Cheap to ask after every step: it looks on from where it was. Of a burst of
   * arrivals, those that could not be hashed yet count whole.
   */
  uncachedTokens(sequence: Sequence): number {
    const most = this.#most(sequence);
    if (most === 0) return sequence.promptLength;
    if (sequence.blockHashes.length === 0) {
      if (this.#hashable <= 0) return sequence.promptLength;
      this.#hashable -= sequence.numTokens;
    }
    const hashes = this.#hashes(sequence);
    const isThere = (index: number): boolean => this.#blocks.blockOf(hashes[index] ?? '') !== undefined;
    let found = sequence.numFoundBlocks;
    if (found > 0 && !isThere(found - 1)) found = 0;
    while (found < most && isThere(found)) found += 1;
    sequence.numFoundBlocks = found;
    return Math.max(0, sequence.promptLength - found * this.#blocks.blockSize);
  }

  /** Blocks that may be taken over. */
  #most(sequence: Sequence): number {
    return this.#enabled ? Math.floor((sequence.numTokens - 1) / this.#blocks.blockSize) : 0;
  }

  /** Hashes of all blocks that the known tokens fill; tokens are only ever appended, so that what is hashed stays so. */
  #hashes(sequence: Sequence): readonly string[] {
    const { blockSize } = this.#blocks;
    const { blockHashes } = sequence;
    const full = Math.floor(sequence.numTokens / blockSize);
    if (blockHashes.length === full) return blockHashes;
    const { tokens } = sequence;
    let parent = blockHashes.at(-1) ?? rootHash(sequence.cacheSalt);
    for (let index = blockHashes.length; index < full; index += 1) {
      const start = index * blockSize;
      const end = start + blockSize;
      const images = sequence.images
        .filter(({ offset, length }) => offset < end && offset + length > start)
        .map(({ hash, offset }) => ({ hash, row: start - offset }));
      parent = blockHash(parent, tokens.subarray(start, end), images);
      blockHashes.push(parent);
    }
    return blockHashes;
  }
}
