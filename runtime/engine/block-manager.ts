// Paged KV memory: which block belongs to which sequence. Blocks are reference-counted and carry the hash of their content once they are full.
// A full block that nobody refers to any more keeps its content until its memory is needed, least recently used first: a sequence that
// begins with the same tokens takes it over instead of computing it again. Only full blocks are ever shared, and a full block is never written.

/** A block was freed twice or the pool was used past its end: a bug in the scheduler, fatal to the engine. */
export class BlockAccountingError extends Error {
  override readonly name = 'BlockAccountingError';
  readonly code = 'block_accounting';
}

/** The pool of `numBlocks` KV blocks of `blockSize` tokens. */
export class BlockManager {
  readonly numBlocks: number;
  readonly blockSize: number;
  /** Blocks without content and without references. */
  readonly #empty: number[];
  /** Blocks with content and without references, least recently used first. */
  readonly #idle = new Set<number>();
  readonly #references: Int32Array;
  /** Content hash of each full block; undefined while it is not full. */
  readonly #hashes: (string | undefined)[];
  /** The block to share for a content; another with the same content that was filled meanwhile is not in it. */
  readonly #byHash = new Map<string, number>();

  constructor(numBlocks: number, blockSize: number) {
    this.numBlocks = numBlocks;
    this.blockSize = blockSize;
    // Popped from the end: low numbers go first.
    this.#empty = Array.from({ length: numBlocks }, (_, index) => numBlocks - 1 - index);
    this.#references = new Int32Array(numBlocks);
    this.#hashes = Array.from({ length: numBlocks }, () => undefined);
  }

  /** Blocks that can be allocated, idle ones included. */
  get numFree(): number {
    return this.#empty.length + this.#idle.size;
  }

  /** Blocks with references. */
  get numUsed(): number {
    return this.numBlocks - this.numFree;
  }

  /** Blocks without references whose content can still be found. */
  get numIdle(): number {
    return this.#idle.size;
  }

  /** Blocks that `numTokens` tokens take. */
  blocksFor(numTokens: number): number {
    return Math.ceil(numTokens / this.blockSize);
  }

  /** Appends free blocks to `blockTable` until it holds `numTokens` tokens or none is free; returns the tokens that it then has room for. */
  grow(blockTable: number[], numTokens: number): number {
    const wanted = this.blocksFor(numTokens);
    while (blockTable.length < wanted) {
      const block = this.#empty.pop() ?? this.#evict();
      if (block === undefined) break;
      this.#references[block] = 1;
      blockTable.push(block);
    }
    return blockTable.length * this.blockSize;
  }

  /** The block with this content, in use or idle. */
  blockOf(hash: string): number | undefined {
    return this.#byHash.get(hash);
  }

  isIdle(block: number): boolean {
    return this.#idle.has(block);
  }

  /** Appends a full block, in use or idle, to `blockTable`: its table is one more that refers to it. */
  share(blockTable: number[], block: number): void {
    const references = this.#references[block] ?? 0;
    if (this.#hashes[block] === undefined) {
      throw new BlockAccountingError(`KV block ${String(block)} cannot be shared: it is not full`);
    }
    if (references === 0 && !this.#idle.delete(block)) {
      throw new BlockAccountingError(`KV block ${String(block)} cannot be shared: it is free`);
    }
    this.#references[block] = references + 1;
    blockTable.push(block);
  }

  /** Gives up one reference to each block of the table and empties it. */
  release(blockTable: number[]): void {
    // Last block first: the next sequence gets empty ones back in order, and of a chain of idle ones the end is evicted before the beginning.
    for (let block = blockTable.pop(); block !== undefined; block = blockTable.pop()) {
      const references = this.#references[block] ?? 0;
      if (references < 1) throw new BlockAccountingError(`KV block ${String(block)} is freed but not in use`);
      this.#references[block] = references - 1;
      if (references > 1) continue;
      const hash = this.#hashes[block];
      if (hash !== undefined && this.#byHash.get(hash) === block) {
        this.#idle.add(block);
      } else {
        this.#hashes[block] = undefined;
        this.#empty.push(block);
      }
    }
  }

  /** Records the content hash of a block that has become full: from now on it can be found and shared. */
  setHash(block: number, hash: string): void {
    this.#hashes[block] = hash;
    if (!this.#byHash.has(hash)) this.#byHash.set(hash, block);
  }

  hashOf(block: number): string | undefined {
    return this.#hashes[block];
  }

  /**
   * Throws BlockAccountingError unless every block is used, idle or empty: in as many of the given tables as it has references, in more than one
   * only when full, and found by its content when nobody refers to it but for that.
   */
  checkInvariants(blockTables: Iterable<readonly number[]>): void {
    const uses = new Int32Array(this.numBlocks);
    for (const table of blockTables) for (const block of table) uses[block] = (uses[block] ?? 0) + 1;
    const isEmpty = new Uint8Array(this.numBlocks);
    for (const block of this.#empty) {
      if (isEmpty[block] === 1)
        throw new BlockAccountingError(`block ${String(block)} is twice in the free list`);
      isEmpty[block] = 1;
    }
    for (const [hash, block] of this.#byHash) {
      if (this.#hashes[block] !== hash)
        throw new BlockAccountingError(`block ${String(block)} is found by the hash of another content`);
    }
    for (const [block, count] of uses.entries()) {
      const problem = this.#problemOf(block, count, isEmpty[block] === 1);
      if (problem !== undefined) throw new BlockAccountingError(`block ${String(block)} ${problem}`);
    }
  }

  #problemOf(block: number, count: number, isEmpty: boolean): string | undefined {
    const references = this.#references[block] ?? 0;
    const hash = this.#hashes[block];
    const isIdle = this.#idle.has(block);
    if (references !== count) return `is in ${String(count)} tables with ${String(references)} references`;
    if ((isEmpty || isIdle) !== (count === 0)) {
      return `is ${count === 0 ? 'neither free nor' : 'both free and'} in a table`;
    }
    if (isEmpty && isIdle) return 'is both empty and idle';
    if (isEmpty && hash !== undefined) return 'is empty and has a hash';
    if (isIdle && (hash === undefined || this.#byHash.get(hash) !== block))
      return 'is idle and cannot be found';
    if (count > 1 && hash === undefined) return 'is shared but not full';
    return undefined;
  }

  /** Takes the least recently used idle block. */
  #evict(): number | undefined {
    const oldest = this.#idle.values().next();
    if (oldest.done === true) return undefined;
    const block = oldest.value;
    this.#idle.delete(block);
    const hash = this.#hashes[block];
    if (hash !== undefined) this.#byHash.delete(hash);
    this.#hashes[block] = undefined;
    return block;
  }
}
