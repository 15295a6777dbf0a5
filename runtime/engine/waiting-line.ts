// The sequences that wait to start, and which of them is next: by priority; of equal priority the tenants take turns; of one tenant by arrival.
// Sequences that have waited long count as of the highest priority that waits, so that low priority does not starve. A tenant is a cache salt: all that
// the wire says about whose a sequence is; those without one are one tenant.

import type { Sequence } from './sequence.ts';
import { TenantTurns } from './tenant-turns.ts';

/** A token of an answer counts as so many of a prompt: it takes a step of its own, and holds its place and its blocks for that long. */
const ANSWER_TOKEN_COST = 2;

/** Holds what waits; is told what becomes of it, until its end. Steps are counted by the scheduler. */
export class WaitingLine implements Iterable<Sequence> {
  readonly #agingSteps: number;
  readonly #sequences = new Set<Sequence>();
  readonly #turns: TenantTurns;

  constructor(agingSteps: number) {
    this.#agingSteps = agingSteps;
    this.#turns = new TenantTurns(agingSteps);
  }

  get size(): number {
    return this.#sequences.size;
  }

  [Symbol.iterator](): IterableIterator<Sequence> {
    return this.#sequences.values();
  }

  has(sequence: Sequence): boolean {
    return this.#sequences.has(sequence);
  }

  /** Tenants with a sequence that waits or runs. */
  get numTenants(): number {
    return this.#turns.size;
  }

  add(sequence: Sequence, step: number): void {
    this.#turns.wait(sequence.cacheSalt);
    this.#wait(sequence, step);
  }

  /** A sequence that ran waits again. */
  putBack(sequence: Sequence, step: number): void {
    this.#turns.putBack(sequence.cacheSalt);
    this.#wait(sequence, step);
  }

  /** A sequence runs from now on; its tenant pays for what it computes of the prompt, once. */
  start(sequence: Sequence, uncachedTokens: number, step: number): void {
    this.#sequences.delete(sequence);
    this.#turns.start(sequence.cacheSalt, sequence.knownToRanks ? 0 : uncachedTokens, step);
  }

  /** A sequence that runs has got a token. */
  answered(sequence: Sequence): void {
    this.#turns.serve(sequence.cacheSalt, ANSWER_TOKEN_COST);
  }

  /** A sequence that was added has ended. */
  end(sequence: Sequence): void {
    this.#turns.leave(sequence.cacheSalt, this.#sequences.delete(sequence) ? 'waiting' : 'running');
  }

  /** The next one first. What is started, ended or left waiting between two of them is seen in whose turn it is, what is added is not seen. */
  *inOrder(step: number): Generator<Sequence> {
    for (const tenants of this.#byPriority(step)) {
      const lines = [...tenants.values()].map((line) => line.toReversed()); // the next one at the end
      while (lines.length > 0) {
        let next = 0;
        for (let index = 1; index < lines.length; index += 1) {
          if (this.#compare(lines[index]!.at(-1)!, lines[next]!.at(-1)!, step) < 0) next = index;
        }
        const line = lines[next]!;
        const sequence = line.pop()!;
        if (line.length === 0) lines.splice(next, 1);
        yield sequence;
      }
    }
  }

  #wait(sequence: Sequence, step: number): void {
    sequence.waitingSince = step;
    this.#sequences.add(sequence);
  }

  /** Highest priority first, each with its tenants' sequences in order of arrival. */
  #byPriority(step: number): Map<string, Sequence[]>[] {
    let highest = -Infinity;
    for (const sequence of this.#sequences) {
      highest = Math.max(highest, sequence.priority);
      if (step - sequence.waitingSince >= this.#agingSteps) sequence.promoted = true;
    }
    const priorities = new Map<number, Map<string, Sequence[]>>();
    for (const sequence of [...this.#sequences].sort((a, b) => a.arrival - b.arrival)) {
      const priority = sequence.promoted ? highest : sequence.priority;
      let tenants = priorities.get(priority);
      if (tenants === undefined) priorities.set(priority, (tenants = new Map<string, Sequence[]>()));
      const line = tenants.get(sequence.cacheSalt);
      if (line === undefined) tenants.set(sequence.cacheSalt, [sequence]);
      else line.push(sequence);
    }
    return [...priorities].sort(([a], [b]) => b - a).map(([, tenants]) => tenants);
  }

  #compare(a: Sequence, b: Sequence, step: number): number {
    const turn = this.#turns.compare(turnOf(a), turnOf(b), step);
    return turn === 0 ? a.arrival - b.arrival : turn;
  }
}

function turnOf({ cacheSalt, waitingSince }: Sequence): { tenant: string; waitingSince: number } {
  return { tenant: cacheSalt, waitingSince };
}
