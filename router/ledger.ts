// The only place where a replica's credits and outstanding work are counted. What the replica reports is taken as of the submission it
// names (last_submit_seq), so a report that crosses a submission on the wire neither loses nor doubles it.

import type { ReplicaLoad } from './cost.ts';

/** The figures of a replica's load report that the router counts with. */
export interface LoadReport {
  readonly running: number;
  readonly waiting: number;
  readonly waitingUncachedTokens: number;
  readonly kvBlocksUsed: number;
  readonly kvBlocks: number;
  readonly lastSubmitSeq: number;
  readonly credits: number;
}

/** Credits and work of one replica during one session. A new session starts with a new ledger. */
export class Ledger {
  #report: LoadReport | undefined;
  #nextSeq = 1;
  /** Handles that hold a credit but are not submitted yet, with their work in tokens. */
  readonly #reserved = new Map<number, number>();
  /** Submissions that no report includes yet, oldest first. */
  #unacked: { readonly seq: number; readonly tokens: number }[] = [];

  report(report: LoadReport): void {
    this.#report = report;
    this.#unacked = this.#unacked.filter((submission) => submission.seq > report.lastSubmitSeq);
  }

  /** Holds a credit for a handle whose pictures are still under way. */
  reserve(handle: number, tokens: number): void {
    if (this.#reserved.has(handle)) throw new Error(`handle ${handle} is reserved already`);
    this.#reserved.set(handle, tokens);
  }

  /** Gives a reserved credit back without submitting; nothing happens when the handle has none. */
  release(handle: number): void {
    this.#reserved.delete(handle);
  }

  /** Turns a reservation into a submission and returns its sequence number. */
  submit(handle: number): number {
    const tokens = this.#reserved.get(handle);
    if (tokens === undefined) throw new Error(`handle ${handle} was submitted without a reservation`);
    this.#reserved.delete(handle);
    const seq = this.#nextSeq++;
    this.#unacked.push({ seq, tokens });
    return seq;
  }

  /** A submission ended without a report, such as a rejection: it uses no credit any more. */
  settle(seq: number): void {
    this.#unacked = this.#unacked.filter((submission) => submission.seq !== seq);
  }

  /** True when the replica has reported that it took the submission. */
  accepted(seq: number): boolean {
    return this.#report !== undefined && this.#report.lastSubmitSeq >= seq;
  }

  /** How many more submissions the replica takes; never negative. */
  get credits(): number {
    if (this.#report === undefined) return 0;
    return Math.max(0, this.#report.credits - this.#unacked.length - this.#reserved.size);
  }

  get unacked(): number {
    return this.#unacked.length + this.#reserved.size;
  }

  get load(): ReplicaLoad {
    let unackedTokens = 0;
    for (const submission of this.#unacked) unackedTokens += submission.tokens;
    for (const tokens of this.#reserved.values()) unackedTokens += tokens;
    const report = this.#report;
    return {
      waitingUncachedTokens: report?.waitingUncachedTokens ?? 0,
      unackedTokens,
      sequences: (report?.running ?? 0) + (report?.waiting ?? 0) + this.unacked,
      kvUsage: report === undefined || report.kvBlocks === 0 ? 0 : report.kvBlocksUsed / report.kvBlocks,
    };
  }

  get running(): number {
    return this.#report?.running ?? 0;
  }

  get waiting(): number {
    return this.#report?.waiting ?? 0;
  }
}
