// Paged KV memory: which block belongs to which sequence. Blocks are reference-counted and carry the hash of their content once they are
// full: a prefix cache shares full blocks between sequences. Until there is one, every allocated block has exactly one owner.

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

  /** Appends a full block of another table to `blockTable`: both refer to it from now on. */
  share(blockTable: number[], block: number): void {
    const references = this.#references[block] ?? 0;
    if (references < 1 || this.#hashes[block] === undefined) {
      throw new BlockAccountingError(
        `KV block ${String(block)} cannot be shared: it is not full or not in use`,
      );
    }
    this.#references[block] = references + 1;
    blockTable.push(block);
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

  /**
   * Throws BlockAccountingError unless every block is either free or in as many of the given tables as it has references, and only full blocks are
   * in more than one.
   */
  checkInvariants(blockTables: Iterable<readonly number[]>): void {
    const uses = new Int32Array(this.numBlocks);
    for (const table of blockTables) for (const block of table) uses[block] = (uses[block] ?? 0) + 1;
    const isFree = new Uint8Array(this.numBlocks);
    for (const block of this.#free) {
      if (isFree[block] === 1)
        throw new BlockAccountingError(`block ${String(block)} is twice in the free list`);
      isFree[block] = 1;
    }
    for (const [block, count] of uses.entries()) {
      const references = this.#references[block] ?? 0;
      const name = `block ${String(block)}`;
      if (references !== count) {
        throw new BlockAccountingError(
          `${name} is in ${String(count)} tables with ${String(references)} references`,
        );
      }
      if ((isFree[block] === 1) !== (count === 0)) {
        throw new BlockAccountingError(
          `${name} is ${count === 0 ? 'neither free nor' : 'both free and'} in a table`,
        );
      }
      const isFull = this.#hashes[block] !== undefined;
      if (count === 0 && isFull) throw new BlockAccountingError(`${name} is free and has a hash`);
      if (count > 1 && !isFull) throw new BlockAccountingError(`${name} is shared but not full`);
    }
  }
}
