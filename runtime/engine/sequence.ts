// One generation from submission to end: its tokens, how many of them have keys and values in the cache, and where those are.

import type { Submission } from './engine.ts';
import type { SamplingParams } from './sampling-params.ts';

export type SequenceState = 'waiting' | 'running' | 'finished';

/** A picture in a prompt. Its pixels stay until the sequence ends, since a preempted sequence encodes it again. */
export interface SequenceImage {
  readonly hash: string;
  /** Names its rows in the encoder cache: nothing is shared between sequences of different salts. */
  readonly key: string;
  readonly offset: number;
  readonly length: number;
  readonly pixels: Uint8Array;
  /** The encoded image that it holds a reference to, from the step of its first row to that of its last. */
  encoded: number | undefined;
}

/** A generation in the engine. Only the scheduler changes `state`, `numComputed`, `blockTable` and the images. */
export class Sequence {
  readonly handle: number;
  /** Rises by one with each submission: the order of equals. */
  readonly arrival: number;
  readonly promptLength: number;
  readonly images: readonly SequenceImage[];
  readonly sampling: SamplingParams;
  readonly seed: bigint;
  readonly logprobs: number | undefined;
  readonly priority: number;
  readonly cacheSalt: string;
  state: SequenceState = 'waiting';
  /** Waited too long: starts as one of the highest priority, and then goes before any that did not. */
  promoted = false;
  /** Tokens that steps under way will add: known to have come, not which. */
  numPending = 0;
  /** The row of the newest such step's logits that the last of them comes from. */
  pendingRow = 0;
  /** The step since which it waits. */
  waitingSince = 0;
  /** Leading tokens whose keys and values are in the cache, those of the step under way included. */
  numComputed = 0;
  /** Of the prompt, found in the prefix cache when it was first scheduled. */
  cachedTokens = 0;
  /** Leading blocks that were published to the prefix cache. */
  numShared = 0;
  /** Content hashes of the blocks that its tokens fill; prefix-cache.ts extends it as tokens come. */
  readonly blockHashes: string[] = [];
  /** Leading blocks that the prefix cache had when it was last asked while the sequence waited. */
  numFoundBlocks = 0;
  /** Block i holds tokens [i * blockSize, (i + 1) * blockSize). */
  readonly blockTable: number[] = [];
  /** Leading entries of blockTable that the ranks have been told. */
  numPublishedBlocks = 0;
  /** The ranks have it in their mirrors and must be told when it ends. */
  knownToRanks = false;
  /** Microseconds of the engine's clock; undefined = not reached. */
  readonly submittedUs: number;
  scheduledUs: number | undefined;
  firstTokenUs: number | undefined;
  #tokens: Int32Array;
  #numTokens: number;

  constructor(submission: Submission, arrival: number, seed: bigint, submittedUs: number) {
    this.handle = submission.handle;
    this.arrival = arrival;
    this.promptLength = submission.tokenIds.length;
    this.images = submission.images
      .map(({ hash, offset, length, pixels }) => {
        const key = `${hash}\0${submission.cacheSalt}`;
        return { hash, key, offset, length, pixels, encoded: undefined };
      })
      .sort((a, b) => a.offset - b.offset);
    this.sampling = submission.sampling;
    this.seed = seed;
    this.logprobs = submission.logprobs;
    this.priority = submission.priority;
    this.cacheSalt = submission.cacheSalt;
    this.submittedUs = submittedUs;
    this.#tokens = new Int32Array(submission.tokenIds.length + 32);
    this.#tokens.set(submission.tokenIds);
    this.#numTokens = submission.tokenIds.length;
  }

  /** Prompt and generated tokens known so far. */
  get numTokens(): number {
    return this.#numTokens;
  }

  get numGenerated(): number {
    return this.#numTokens - this.promptLength;
  }

  /** Those and the ones under way. */
  get numExpected(): number {
    return this.#numTokens + this.numPending;
  }

  /** Tokens still to compute, those under way included; 1 for a sequence that decodes. */
  get numUncomputed(): number {
    return this.numExpected - this.numComputed;
  }

  /** [numTokens], a view that is valid until the next append. */
  get tokens(): Int32Array {
    return this.#tokens.subarray(0, this.#numTokens);
  }

  /** Tokens [start, end) into `into` from `at` on; `pending` for the one that is under way. */
  copyTokens(start: number, end: number, into: Int32Array, at: number, pending: number): void {
    if (end > this.numExpected)
      throw new RangeError(`sequence ${String(this.handle)} has no token ${String(end - 1)}`);
    for (let index = start; index < end; index += 1)
      into[at + index - start] = index < this.#numTokens ? this.#tokens[index]! : pending;
  }

  append(tokenId: number): void {
    if (this.#numTokens === this.#tokens.length) {
      const grown = new Int32Array(this.#tokens.length * 2);
      grown.set(this.#tokens);
      this.#tokens = grown;
    }
    this.#tokens[this.#numTokens] = tokenId;
    this.#numTokens += 1;
  }
}
