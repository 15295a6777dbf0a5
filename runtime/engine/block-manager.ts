// Paged KV memory: which block belongs to which sequence. Blocks are reference-counted and carry the hash of their content once they are
// full, so that a prefix cache can share them; until there is one, every allocated block has exactly one owner.

/** A block was freed twice or the pool was used past its end: a bug in the scheduler, fatal to the engine. */
export class BlockAccountingError extends Error {
  override readonly name = 'BlockAccountingError';
  readonly code = 'block_accounting';
}

/** The pool of `numBlocks` KV blocks of `blockSize` tokens. */
export class BlockManager {
  readonly numBlocks: number;
  readonly blockSize: number;
  readonly #free: number[];
  readonly #references: Int32Array;
  /** Content hash of each full block; undefined while it is not full or free. */
  readonly #hashes: (string | undefined)[];

  constructor(numBlocks: number, blockSize: number) {
    this.numBlocks = numBlocks;
    this.blockSize = blockSize;
    // Popped from the end: low numbers go first.
    this.#free = Array.from({ length: numBlocks }, (_, index) => numBlocks - 1 - index);
    this.#references = new Int32Array(numBlocks);
    this.#hashes = Array.from({ length: numBlocks }, () => undefined);
  }

  get numFree(): number {
    return this.#free.length;
  }

  get numUsed(): number {
    return this.numBlocks - this.#free.length;
  }

  /** Blocks that `numTokens` tokens take. */
  blocksFor(numTokens: number): number {
    return Math.ceil(numTokens / this.blockSize);
  }

  /** Appends free blocks to `blockTable` until it holds `numTokens` tokens or none is free; returns the tokens that it then has room for. */
  grow(blockTable: number[], numTokens: number): number {
    const wanted = this.blocksFor(numTokens);
    while (blockTable.length < wanted) {
      const block = this.#free.pop();
      if (block === undefined) break;
      this.#references[block] = 1;
      blockTable.push(block);
    }
    return blockTable.length * this.blockSize;
  }

  /** Gives up one reference to each block of the table and empties it. */
  release(blockTable: number[]): void {
    // Last block first, so that the next sequence gets them back in order.
    for (let block = blockTable.pop(); block !== undefined; block = blockTable.pop()) {
      const references = this.#references[block] ?? 0;
      if (references < 1) throw new BlockAccountingError(`KV block ${String(block)} is freed but not in use`);
      this.#references[block] = references - 1;
      if (references > 1) continue;
      this.#hashes[block] = undefined;
      this.#free.push(block);
    }
  }

  /** Records the content hash of a block that has become full. */
  setHash(block: number, hash: string): void {
    this.#hashes[block] = hash;
  }

  hashOf(block: number): string | undefined {
    return this.#hashes[block];
  }

  /** Throws BlockAccountingError unless free and used blocks add up, every reference is accounted for by a table, and no block is in two tables. */
  checkInvariants(blockTables: Iterable<readonly number[]>): void {
    const seen = new Int32Array(this.numBlocks);
    for (const block of this.#free) {
      if (this.#references[block] !== 0)
        throw new BlockAccountingError(`free block ${String(block)} has references`);
      if (this.#hashes[block] !== undefined)
        throw new BlockAccountingError(`free block ${String(block)} has a hash`);
      if (seen[block] !== 0)
        throw new BlockAccountingError(`block ${String(block)} is twice in the free list`);
      seen[block] = 1;
    }
    for (const table of blockTables) {
      for (const block of table) {
        if (this.#references[block] !== 1) {
          throw new BlockAccountingError(
            `block ${String(block)} is in a table with ${String(this.#references[block])} references`,
          );
        }
        if (seen[block] !== 0) throw new BlockAccountingError(`block ${String(block)} is in two places`);
        seen[block] = 1;
      }
    }
    const lost = seen.indexOf(0);
    if (lost !== -1) throw new BlockAccountingError(`block ${String(lost)} is neither free nor in a table`);
  }
}
