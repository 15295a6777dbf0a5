// What every rank knows of the sequences: their block tables and how much of them is computed, kept by applying each step's plan in order.
// Whatever the forward pass needs beyond the plan (positions, slots, block tables) is derived here, so that two ranks that applied the same
// plans run the same batch, and the running hash over all batches says whether they did.

import type { Batch } from './batch.ts';
import { ReusedInt32Array } from './reused-arrays.ts';
import { ReusedStepInputs } from './step-inputs.ts';
import type { ScheduledSequence, StepPlan } from './step-plan.ts';

/** A plan that does not follow from the plans before it: the rank's state and rank 0's differ, and the group must end. */
export class PlanMismatch extends Error {
  override readonly name = 'PlanMismatch';
  readonly code = 'plan_mismatch';
  readonly step: number;

  constructor(step: number, problem: string) {
    super(
      `step plan ${String(step)}: ${problem}; this rank's state differs from rank 0's, restart the group`,
    );
    this.step = step;
  }
}

export interface RankStateOptions {
  /** Tokens a block. */
  readonly blockSize: number;
  readonly kvBlocks: number;
}

interface MirroredSequence {
  readonly blockTable: number[];
  numComputed: number;
}

/** The mirror of rank 0's decisions; grows and shrinks with the live sequences and the encoded images that the plans name. */
export class RankState {
  readonly #blockSize: number;
  readonly #kvBlocks: number;
  readonly #sequences = new Map<number, MirroredSequence>();
  readonly #images = new Set<number>();
  /** [kvBlocks] 1 = all tokens of the block are computed, by this step at the latest. */
  readonly #filled: Uint8Array;
  #planHash = 0;
  readonly #inputs = new ReusedStepInputs();
  readonly #positions = new ReusedInt32Array();
  readonly #slots = new ReusedInt32Array();
  readonly #queryStart = new ReusedInt32Array();
  readonly #contextLengths = new ReusedInt32Array();
  readonly #blockTables = new ReusedInt32Array();
  readonly #logitRows = new ReusedInt32Array();

  constructor(options: RankStateOptions) {
    this.#blockSize = options.blockSize;
    this.#kvBlocks = options.kvBlocks;
    this.#filled = new Uint8Array(options.kvBlocks);
  }

  /** Unsigned 32-bit hash over every plan applied so far. */
  get planHash(): number {
    return this.#planHash;
  }

  get numSequences(): number {
    return this.#sequences.size;
  }

  /** Advances the mirror by one step. The batch's inputs are zero, for rank 0 to fill; the batch is valid until the next step. Throws PlanMismatch; the state is then unusable. */
  apply(plan: StepPlan): Batch {
    for (const handle of plan.finished) {
      if (!this.#sequences.delete(handle))
        throw mismatch(plan, `finishes unknown sequence ${String(handle)}`);
    }
    for (const handle of plan.preempted) {
      const sequence = this.#sequences.get(handle);
      if (sequence === undefined) throw mismatch(plan, `preempts unknown sequence ${String(handle)}`);
      sequence.blockTable.length = 0;
      sequence.numComputed = 0;
    }
    for (const image of plan.freeImages) {
      if (!this.#images.delete(image)) throw mismatch(plan, `frees unknown image ${String(image)}`);
    }
    for (const image of plan.encodeImages) {
      if (this.#images.has(image)) throw mismatch(plan, `encodes image ${String(image)} twice`);
      this.#images.add(image);
    }
    const tables = plan.sequences.map((scheduled) => this.#advance(plan, scheduled));
    const batch = this.#batch(plan, tables);
    this.#planHash = planHash(batch, stateHash(plan, this.#planHash));
    return batch;
  }

  #advance(plan: StepPlan, scheduled: ScheduledSequence): readonly number[] {
    const { handle, numComputed, numTokens, newBlocks } = scheduled;
    const name = `sequence ${String(handle)}`;
    let sequence = this.#sequences.get(handle);
    if (sequence === undefined) {
      sequence = { blockTable: [], numComputed: 0 };
      this.#sequences.set(handle, sequence);
    }
    if (sequence.blockTable.length === 0 && numComputed > 0) {
      this.#checkPrefix(plan, scheduled);
      sequence.numComputed = numComputed;
    }
    if (sequence.numComputed !== numComputed) {
      throw mismatch(
        plan,
        `${name} starts at token ${String(numComputed)}, computed so far: ${String(sequence.numComputed)}`,
      );
    }
    if (!(numTokens >= 1)) throw mismatch(plan, `${name} has ${String(numTokens)} tokens`);
    for (const block of newBlocks) {
      if (!(block >= 0 && block < this.#kvBlocks)) {
        throw mismatch(plan, `${name} is given block ${String(block)} of ${String(this.#kvBlocks)}`);
      }
      // Those beyond a prefix are to be written.
      if (sequence.blockTable.length * this.#blockSize >= numComputed) this.#filled[block] = 0;
      sequence.blockTable.push(block);
    }
    sequence.numComputed += numTokens;
    if (sequence.numComputed > sequence.blockTable.length * this.#blockSize) {
      throw mismatch(plan, `${name} has fewer blocks than its ${String(sequence.numComputed)} tokens need`);
    }
    const full = Math.floor(sequence.numComputed / this.#blockSize);
    for (let index = Math.floor(numComputed / this.#blockSize); index < full; index += 1) {
      this.#filled[sequence.blockTable[index] ?? -1] = 1;
    }
    return sequence.blockTable;
  }

  /** A sequence may start behind whole blocks that others have filled. */
  #checkPrefix(plan: StepPlan, { handle, numComputed, newBlocks }: ScheduledSequence): void {
    const prefix = newBlocks.slice(0, numComputed / this.#blockSize);
    const isWhole = prefix.length * this.#blockSize === numComputed;
    const unfilled = prefix.find((block) => this.#filled[block] !== 1);
    if (isWhole && unfilled === undefined) return;
    const why = isWhole ? `block ${String(unfilled)} is not filled` : 'that is not behind whole blocks';
    throw mismatch(plan, `sequence ${String(handle)} starts at token ${String(numComputed)}: ${why}`);
  }

  #batch(plan: StepPlan, tables: readonly (readonly number[])[]): Batch {
    const numSequences = plan.sequences.length;
    let numTokens = 0;
    let numLogits = 0;
    let maxBlocks = 0;
    for (const [index, scheduled] of plan.sequences.entries()) {
      numTokens += scheduled.numTokens;
      if (scheduled.wantsLogits) numLogits += 1;
      maxBlocks = Math.max(maxBlocks, tables[index]?.length ?? 0);
    }
    const positions = this.#positions.of(numTokens); // [T]
    const slots = this.#slots.of(numTokens); // [T]
    const queryStart = this.#queryStart.of(numSequences + 1); // [S + 1]
    const contextLengths = this.#contextLengths.of(numSequences); // [S]
    const blockTables = this.#blockTables.of(numSequences * maxBlocks); // [S, maxBlocks]
    const logitRows = this.#logitRows.of(numLogits); // [L]
    let row = 0;
    let logitRow = 0;
    const inputs = this.#inputs.of(numTokens, numLogits);
    inputs.words.fill(0);
    queryStart[0] = 0;
    blockTables.fill(0);
    for (const [index, { numComputed, numTokens: count, wantsLogits }] of plan.sequences.entries()) {
      const table = tables[index] ?? [];
      for (let position = numComputed; position < numComputed + count; position += 1) {
        const block = table[Math.floor(position / this.#blockSize)] ?? 0; // #advance has checked that it is there
        positions[row] = position;
        slots[row] = block * this.#blockSize + (position % this.#blockSize);
        row += 1;
      }
      queryStart[index + 1] = row;
      contextLengths[index] = numComputed + count;
      blockTables.set(table, index * maxBlocks);
      if (wantsLogits) logitRows[logitRow++] = row - 1;
    }
    for (const rows of plan.imageRows) this.#checkImageRows(plan, rows, numTokens);
    return {
      step: plan.step,
      numTokens,
      numSequences,
      inputs,
      positions,
      slots,
      queryStart,
      contextLengths,
      blockTables,
      maxBlocks,
      logitRows,
      imageRows: plan.imageRows,
    };
  }

  #checkImageRows(plan: StepPlan, rows: StepPlan['imageRows'][number], numTokens: number): void {
    const { image, sourceRow, targetRow, count } = rows;
    if (!this.#images.has(image)) throw mismatch(plan, `takes rows of unknown image ${String(image)}`);
    if (!(sourceRow >= 0 && targetRow >= 0 && count >= 1 && targetRow + count <= numTokens)) {
      throw mismatch(
        plan,
        `puts rows of image ${String(image)} outside the step's ${String(numTokens)} tokens`,
      );
    }
  }
}

function mismatch(plan: StepPlan, problem: string): PlanMismatch {
  return new PlanMismatch(plan.step, problem);
}

/** Unsigned 32-bit hash of everything in the batch but its inputs (which only rank 0 knows), continuing `previous`. */
export function planHash(batch: Batch, previous = 0): number {
  let hash = mixAll(previous, [batch.step, batch.numTokens, batch.numSequences, batch.maxBlocks]);
  hash = mixAll(hash, batch.positions);
  hash = mixAll(hash, batch.slots);
  hash = mixAll(hash, batch.queryStart);
  hash = mixAll(hash, batch.contextLengths);
  hash = mixAll(hash, batch.blockTables);
  hash = mixAll(hash, batch.logitRows);
  for (const rows of batch.imageRows) {
    hash = mixAll(hash, [rows.image, rows.sourceRow, rows.targetRow, rows.count]);
  }
  return hash;
}

/** Of the parts of a plan that change state without showing in the batch. */
function stateHash(plan: StepPlan, previous: number): number {
  let hash = previous;
  for (const list of [plan.finished, plan.preempted, plan.freeImages, plan.encodeImages]) {
    hash = mixAll(mixAll(hash, [list.length]), list);
  }
  return hash;
}

/** MurmurHash3's 32-bit body over the values as 32-bit words, its finaliser at the end. */
function mixAll(seed: number, values: ArrayLike<number>): number {
  let hash = seed | 0;
  for (let index = 0; index < values.length; index += 1) {
    let word = Math.imul(values[index] ?? 0, 0xcc9e2d51);
    word = (word << 15) | (word >>> 17);
    hash ^= Math.imul(word, 0x1b873593);
    hash = (hash << 13) | (hash >>> 19);
    hash = (Math.imul(hash, 5) + 0xe6546b64) | 0;
  }
  hash ^= values.length;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
