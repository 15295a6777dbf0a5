// What the next step computes. There are no phases: every sequence has numComputed tokens in the cache and catches up with the tokens it
// knows, under one token budget a step. A decode is a sequence with one token to catch up, a prefill one with many, a preempted sequence one
// that starts over. Plain decisions over plain state: no clock, no I/O, no native code.
//
// What must hold after each step: blocks are free or in a table, in several only when full; nobody writes a full block; the step's tokens are within
// the budget; the best-ranked running sequence can always go on (it preempts the others), so that every sequence ends.

import { BlockManager } from './block-manager.ts';
import { EncodedImages } from './encoded-images.ts';
import type { CacheLoad, FinishReason } from './engine.ts';
import type { EndedSequence } from './finished-sequence.ts';
import { PrefixCache } from './prefix-cache.ts';
import { buildStep } from './scheduled-step.ts';
import type { ScheduledStep } from './scheduled-step.ts';
import { byRank } from './scheduling-order.ts';
import { checkAccounts } from './scheduler-accounts.ts';
import { checkLimits } from './scheduler-limits.ts';
import type { SchedulerLimits } from './scheduler-limits.ts';
import { holdImages, releaseImages, waitsForImage } from './sequence-images.ts';
import type { Sequence } from './sequence.ts';
import { StepDraft } from './step-draft.ts';
import { ReusedStepInputs } from './step-inputs.ts';
import { WaitingLine } from './waiting-line.ts';

export type TokenChoice = { readonly tokenId: number } | { readonly error: string };

/** Decides who runs; owns the sequences from add to their end. */
export class Scheduler {
  readonly #limits: SchedulerLimits;
  readonly #blocks: BlockManager;
  readonly #prefixes: PrefixCache;
  readonly #images: EncodedImages;
  readonly #waiting: WaitingLine;
  readonly #running = new Set<Sequence>();
  /** Told to the ranks in the next plan. */
  #finished: number[] = [];
  #preempted: number[] = [];
  #ended: EndedSequence[] = [];
  #step = 0;
  readonly #inputs = new ReusedStepInputs();

  /** Throws RangeError for limits that cannot work. */
  constructor(limits: SchedulerLimits) {
    checkLimits(limits);
    this.#limits = limits;
    this.#waiting = new WaitingLine(limits.agingSteps);
    this.#blocks = new BlockManager(limits.kvBlocks, limits.blockSize);
    this.#prefixes = new PrefixCache(this.#blocks, limits.prefixCache);
    this.#images = new EncodedImages(limits);
  }

  get numWaiting(): number {
    return this.#waiting.size;
  }

  get numRunning(): number {
    return this.#running.size;
  }

  get numBlocksUsed(): number {
    return this.#blocks.numUsed;
  }

  /** imageBytes: what the rows of one encoded picture take on a rank. */
  cacheLoad(imageBytes: number): CacheLoad {
    return {
      promptTokens: this.#prefixes.promptTokens,
      hitTokens: this.#prefixes.hitTokens,
      idleBlocks: this.#blocks.numIdle,
      imageHits: this.#images.hits,
      imageMisses: this.#images.misses,
      imageBytes: this.#images.numEncoded * imageBytes,
    };
  }

  /** Prompt tokens of accepted sequences that are still to be computed: of a waiting one, those that are not in the prefix cache now. */
  get waitingUncachedTokens(): number {
    let tokens = 0;
    for (const sequence of this.#waiting) tokens += this.#prefixes.uncachedTokens(sequence);
    for (const sequence of this.#running) tokens += Math.max(0, sequence.promptLength - sequence.numComputed);
    return tokens;
  }

  add(sequence: Sequence): void {
    this.#waiting.add(sequence, this.#step);
  }

  /** Ends a sequence at any time, also between its plan and the result; one that has ended is left alone. */
  end(sequence: Sequence, reason: FinishReason, matchedStopTokenId?: number, message?: string): void {
    if (sequence.state === 'finished') return;
    const wasAdded = this.#running.delete(sequence) || this.#waiting.has(sequence);
    if (wasAdded) this.#waiting.end(sequence);
    this.#release(sequence);
    sequence.state = 'finished';
    if (sequence.knownToRanks) {
      this.#preempted = this.#preempted.filter((handle) => handle !== sequence.handle);
      this.#finished.push(sequence.handle);
    }
    this.#ended.push({ sequence, reason, matchedStopTokenId, message });
  }

  /** The sequences that have ended since the last call. */
  takeEnded(): EndedSequence[] {
    const ended = this.#ended;
    this.#ended = [];
    return ended;
  }

  /**
   * The next step, or undefined when nothing can run. Counts the step's tokens as computed: plans must be executed in order. prefillTokens: how many
   * prefill tokens, at least one, are welcome beside so many decodes.
   */
  schedule(prefillTokens: (decodes: number) => number = () => Infinity): ScheduledStep | undefined {
    this.#images.beginStep();
    this.#prefixes.beginStep();
    const decodes = this.#numDecodes();
    const draft = new StepDraft(Math.min(this.#limits.maxBatchedTokens, decodes + prefillTokens(decodes)));
    this.#chooseRunning(draft);
    if (!draft.preempted) this.#chooseWaiting(draft);
    return draft.chosen.size === 0 ? undefined : this.#commit(draft.chosen);
  }

  /** Takes the tokens chosen for step.sampling and returns those to deliver. Sequences that ended meanwhile are passed over. */
  postprocess(
    step: ScheduledStep,
    choices: readonly TokenChoice[],
  ): { readonly sequence: Sequence; readonly tokenId: number }[] {
    if (choices.length !== step.sampling.length) {
      throw new RangeError(
        `step ${String(step.plan.step)}: ${String(choices.length)} tokens for ${String(step.sampling.length)} sequences`,
      );
    }
    const delivered: { sequence: Sequence; tokenId: number }[] = [];
    for (const [index, sequence] of step.sampling.entries()) {
      const choice = choices[index];
      sequence.numPending -= 1;
      if (choice === undefined || sequence.state === 'finished') continue;
      if ('error' in choice) {
        this.end(sequence, 'error', undefined, choice.error);
        continue;
      }
      if (isStop(sequence, choice.tokenId)) {
        this.end(sequence, 'stop', choice.tokenId);
        continue;
      }
      sequence.append(choice.tokenId);
      if (sequence.state === 'running') this.#prefixes.publish(sequence);
      this.#waiting.answered(sequence);
      delivered.push({ sequence, tokenId: choice.tokenId });
      if (isFull(sequence, this.#limits.maxModelLength)) this.end(sequence, 'length');
    }
    return delivered;
  }

  /** Throws when blocks, references or images are not accounted for; for tests. */
  checkInvariants(): void {
    checkAccounts([...this.#waiting, ...this.#running], this.#blocks, this.#images);
  }

  #numDecodes(): number {
    let decodes = 0;
    for (const sequence of this.#running)
      if (sequence.numUncomputed === 1 && !this.#willEnd(sequence)) decodes += 1;
    return decodes;
  }

  /** The token under way is its last, whichever it is. */
  #willEnd(sequence: Sequence): boolean {
    const { numPending, numGenerated, numExpected, sampling } = sequence;
    return (
      numPending > 0 &&
      (numGenerated + numPending >= sampling.maxTokens || numExpected >= this.#limits.maxModelLength)
    );
  }

  /** Decodes first, then prefills, the best-ranked of each first. */
  #chooseRunning(draft: StepDraft): void {
    const ranked = [...this.#running].filter((sequence) => !this.#willEnd(sequence)).sort(byRank);
    const decodes = ranked.filter((sequence) => sequence.numUncomputed === 1);
    const prefills = ranked.filter((sequence) => sequence.numUncomputed > 1);
    for (const sequence of [...decodes, ...prefills]) {
      if (sequence.state !== 'running' || draft.budget === 0) continue;
      const count = this.#chunk(sequence, draft);
      if (count > 0) draft.choose(sequence, count);
    }
  }

  /** Tokens of a running sequence that can be computed now, their blocks allocated and their pictures held; preempts when there is no block. */
  #chunk(sequence: Sequence, draft: StepDraft): number {
    if (waitsForImage(this.#images, sequence, sequence.numComputed)) return 0;
    const wanted = sequence.numComputed + Math.min(sequence.numUncomputed, draft.budget);
    let room = this.#blocks.grow(sequence.blockTable, wanted);
    while (room <= sequence.numComputed) {
      // Blocks are on their way back: nobody needs to start over for them.
      if ([...this.#running].some((other) => this.#willEnd(other))) return 0;
      const victim = [...this.#running].sort(byRank).at(-1) ?? sequence;
      if (victim === sequence && this.#running.size === 1) {
        const message = `the KV cache holds ${String(this.#limits.kvBlocks * this.#limits.blockSize)} tokens: too few for this sequence to go on after ${String(sequence.numTokens)}`;
        this.end(sequence, 'error', undefined, message);
        return 0;
      }
      this.#preempt(victim, draft);
      if (victim === sequence) return 0;
      room = this.#blocks.grow(sequence.blockTable, wanted);
    }
    return holdImages(this.#images, sequence, Math.min(wanted, room)) - sequence.numComputed;
  }

  /** Admits waiting sequences in the order of their line; the first that does not fit holds back the others, so that a large one is not starved by small ones. */
  #chooseWaiting(draft: StepDraft): void {
    if (this.#waiting.size === 0) return;
    // Free blocks less what the running sequences need for the tokens they know.
    let available = this.#blocks.numFree;
    for (const sequence of this.#running) available -= this.#missingBlocks(sequence);
    for (const sequence of draft.chosen.keys()) this.#prefixes.comes(sequence);
    let numHeld = 0; // that wait for blocks which others compute, with their places kept
    for (const sequence of this.#waiting.inOrder(this.#step)) {
      if (draft.budget === 0 || this.#running.size + numHeld >= this.#limits.maxSequences) return;
      const needed = this.#blocks.blocksFor(sequence.numTokens);
      if (needed > this.#limits.kvBlocks) {
        const message = `${String(sequence.numTokens)} tokens take ${String(needed)} KV blocks of ${String(this.#limits.kvBlocks)}`;
        this.end(sequence, 'error', undefined, message);
        continue;
      }
      // Some blocks are kept for the running ones to grow into; else they would be preempted at once.
      const headroom = this.#running.size === 0 ? 0 : Math.ceil(this.#limits.kvBlocks / 100);
      const hit = this.#prefixes.find(sequence);
      // Blocks that other sequences hold anyway take none of what is free.
      const taken = needed - hit.blocks.length + hit.numIdle;
      if (taken + headroom > available || waitsForImage(this.#images, sequence, hit.tokens)) return;
      if (this.#prefixes.shouldWait(sequence, hit, draft.budget)) {
        available -= taken;
        numHeld += 1;
        continue;
      }
      // Only what is through with its prompt in this step may pass those held: it takes nothing of the next.
      const isWhole = sequence.images.length === 0 && sequence.numTokens - hit.tokens <= draft.budget;
      if (numHeld > 0 && !isWhole) return;
      this.#prefixes.adopt(sequence, hit);
      const wanted = Math.min(sequence.numTokens, hit.tokens + draft.budget);
      const room = this.#blocks.grow(sequence.blockTable, wanted);
      const count = holdImages(this.#images, sequence, Math.min(wanted, room)) - hit.tokens;
      available -= taken;
      this.#waiting.start(sequence, sequence.numTokens - hit.tokens, this.#step);
      this.#running.add(sequence);
      sequence.state = 'running';
      draft.choose(sequence, count);
      this.#prefixes.comes(sequence);
    }
  }

  #missingBlocks(sequence: Sequence): number {
    return Math.max(0, this.#blocks.blocksFor(sequence.numExpected) - sequence.blockTable.length);
  }

  #preempt(victim: Sequence, draft: StepDraft): void {
    draft.preempt(victim);
    this.#release(victim);
    victim.numComputed = 0;
    victim.state = 'waiting';
    this.#running.delete(victim);
    this.#waiting.putBack(victim, this.#step);
    this.#preempted.push(victim.handle);
  }

  #release(sequence: Sequence): void {
    this.#blocks.release(sequence.blockTable);
    sequence.numPublishedBlocks = 0;
    sequence.numShared = 0;
    releaseImages(this.#images, sequence, Infinity);
  }

  #commit(chosen: ReadonlyMap<Sequence, number>): ScheduledStep {
    const { free, encode } = this.#images.endStep();
    const changes = {
      step: this.#step,
      finished: this.#finished,
      preempted: this.#preempted,
      freeImages: free,
      encode,
    };
    const step = buildStep(chosen, changes, this.#inputs);
    for (const [sequence, count] of chosen) this.#advance(sequence, sequence.numComputed + count);
    for (const [row, sequence] of step.sampling.entries()) {
      sequence.numPending += 1;
      sequence.pendingRow = row;
    }
    this.#finished = [];
    this.#preempted = [];
    this.#step += 1;
    return step;
  }

  #advance(sequence: Sequence, end: number): void {
    sequence.numComputed = end;
    sequence.knownToRanks = true;
    sequence.numPublishedBlocks = sequence.blockTable.length;
    releaseImages(this.#images, sequence, end);
    this.#prefixes.publish(sequence);
  }
}

/** The token ends the answer and is no part of it. */
function isStop({ sampling, numGenerated }: Sequence, tokenId: number): boolean {
  return numGenerated >= sampling.minTokens && sampling.stopTokenIds.includes(tokenId);
}

function isFull({ sampling, numGenerated, numTokens }: Sequence, maxModelLength: number): boolean {
  return numGenerated >= sampling.maxTokens || numTokens >= maxModelLength;
}
