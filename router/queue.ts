// The central queue: requests wait here, and not at a replica, until a replica has credit. Bounded in count, bytes and age.

import { TenantTurns } from '../runtime/engine/tenant-turns.ts';
import { ClassLine, type Walk } from './class-line.ts';

/** What the queue needs to know of a request. Times are milliseconds of one monotonic clock. */
export interface Queueable {
  /** Larger = more urgent: 0 batch, 1 normal, 2 high. */
  readonly priorityClass: number;
  /** Bytes that waiting costs: prompt tokens and pictures. */
  readonly bytes: number;
  /** When it first entered the queue; a request that comes back keeps it, and with it its place in line. */
  readonly enqueuedAt: number;
  /** When it last entered the queue: what the longest wait is counted from. */
  readonly waitingSince: number;
  /** What serving it costs; absent = as much as any other. */
  readonly workTokens?: number;
  /** Whose it is: a tenant is a cache salt, those without one are one tenant. */
  readonly work?: { readonly cacheSalt: string };
}

export interface QueueLimits {
  readonly maxRequests: number;
  readonly maxBytes: number;
  /** A request that has waited longer is handed out by `expired`. */
  readonly maxWaitMs: number;
  /** Waiting this long is worth one priority class, so that no class starves. */
  readonly agingMs: number;
}

export const PRIORITY_CLASSES = 3;

export type PushResult = 'queued' | 'too many requests' | 'too many bytes';

/** Inside a class tenants take turns, each first come, first served; between classes by class and age. Every method is O(tenants) but `inOrder` and `expired`. */
export class RequestQueue<T extends Queueable> {
  readonly #limits: QueueLimits;
  readonly #classes: readonly ClassLine<T>[];
  #bytes = 0;
  #size = 0;

  constructor(limits: QueueLimits) {
    this.#limits = limits;
    const turns = new TenantTurns(limits.agingMs);
    this.#classes = Array.from({ length: PRIORITY_CLASSES }, () => new ClassLine(turns));
  }

  get size(): number {
    return this.#size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  push(item: T): PushResult {
    if (this.#size >= this.#limits.maxRequests) return 'too many requests';
    if (this.#bytes + item.bytes > this.#limits.maxBytes) return 'too many bytes';
    this.#classes[classOf(item)]!.push(item);
    this.#count(item);
    return 'queued';
  }

  /** Takes a request back that had left: it was admitted once, so the limits do not apply, and it stands before fresh ones. */
  pushBack(item: T): void {
    this.#classes[classOf(item)]!.pushBack(item);
    this.#count(item);
  }

  /** False when the request was not waiting. */
  remove(item: T): boolean {
    if (!this.#classes[classOf(item)]!.remove(item)) return false;
    this.#size--;
    this.#bytes -= item.bytes;
    return true;
  }

  /** Waiting requests, the next one to serve first. Do not add while iterating; removing what was already yielded is fine. */
  *inOrder(now: number): Generator<T> {
    const walks = this.#classes.map((line) => line.walk(now));
    for (;;) {
      let best: Walk<T> | undefined;
      let bestScore = -Infinity;
      for (const walk of walks) {
        const { oldest } = walk;
        if (oldest === undefined) continue;
        const score = urgency(oldest, now, this.#limits.agingMs);
        // On a tie the higher class, which is later in the list, goes first.
        if (score >= bestScore) {
          best = walk;
          bestScore = score;
        }
      }
      const item = best?.take();
      if (item === undefined) return;
      yield item;
    }
  }

  /** Removes and returns every request that has waited longer than the limit. */
  expired(now: number): T[] {
    const late: T[] = [];
    for (const line of this.#classes) {
      for (const item of line) {
        if (now - item.waitingSince > this.#limits.maxWaitMs) late.push(item);
      }
    }
    for (const item of late) this.remove(item);
    return late;
  }

  #count(item: T): void {
    this.#size++;
    this.#bytes += item.bytes;
  }
}

/** Age counts like priority: one class is worth `agingMs` of waiting. */
export function urgency(item: Queueable, now: number, agingMs: number): number {
  return classOf(item) * agingMs + (now - item.enqueuedAt);
}

function classOf(item: Queueable): number {
  return Math.min(PRIORITY_CLASSES - 1, Math.max(0, item.priorityClass));
}
