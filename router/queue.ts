// The central queue: requests wait here, and not at a replica, until a replica has credit. Bounded in count, bytes and age.

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

/** First come, first served inside a class; between classes by class and age. Every method is O(classes) but `inOrder` and `expired`. */
export class RequestQueue<T extends Queueable> {
  readonly #limits: QueueLimits;
  // Two lines a class: requests that came back from a failed replica stand before those that never left. Sets keep arrival order and
  // remove in O(1).
  readonly #returned: Set<T>[] = Array.from({ length: PRIORITY_CLASSES }, () => new Set());
  readonly #fresh: Set<T>[] = Array.from({ length: PRIORITY_CLASSES }, () => new Set());
  #bytes = 0;
  #size = 0;

  constructor(limits: QueueLimits) {
    this.#limits = limits;
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
    this.#add(this.#fresh, item);
    return 'queued';
  }

  /** Takes a request back that had left: it was admitted once, so the limits do not apply, and it stands before fresh ones. */
  pushBack(item: T): void {
    this.#add(this.#returned, item);
  }

  /** False when the request was not waiting. */
  remove(item: T): boolean {
    const index = classOf(item);
    if (!this.#returned[index]!.delete(item) && !this.#fresh[index]!.delete(item)) return false;
    this.#size--;
    this.#bytes -= item.bytes;
    return true;
  }

  /** Waiting requests, the next one to serve first. Do not add while iterating; removing what was already yielded is fine. */
  *inOrder(now: number): Generator<T> {
    const lines: Line<T>[] = [];
    for (const [index, fresh] of this.#fresh.entries()) {
      const returned = this.#returned[index]!;
      if (returned.size + fresh.size > 0) lines.push(new Line(returned, fresh));
    }
    for (;;) {
      let best: Line<T> | undefined;
      let bestScore = -Infinity;
      for (const line of lines) {
        if (line.head === undefined) continue;
        const score = urgency(line.head, now, this.#limits.agingMs);
        // On a tie the higher class, which is later in the list, goes first.
        if (score >= bestScore) {
          best = line;
          bestScore = score;
        }
      }
      if (best?.head === undefined) return;
      const item = best.head;
      best.advance();
      yield item;
    }
  }

  /** Removes and returns every request that has waited longer than the limit. */
  expired(now: number): T[] {
    const late: T[] = [];
    for (const line of [...this.#returned, ...this.#fresh]) {
      for (const item of line) {
        if (now - item.waitingSince > this.#limits.maxWaitMs) late.push(item);
      }
    }
    for (const item of late) this.remove(item);
    return late;
  }

  #add(lines: Set<T>[], item: T): void {
    lines[classOf(item)]!.add(item);
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

/** Two sets, one after the other, with the next item in sight. */
class Line<T> {
  head: T | undefined;
  #iterator: Iterator<T>;
  #second: Iterable<T> | undefined;

  constructor(first: Iterable<T>, second: Iterable<T>) {
    this.#iterator = first[Symbol.iterator]();
    this.#second = second;
    this.advance();
  }

  advance(): void {
    const next = this.#iterator.next();
    if (next.done !== true) {
      this.head = next.value;
    } else if (this.#second === undefined) {
      this.head = undefined;
    } else {
      this.#iterator = this.#second[Symbol.iterator]();
      this.#second = undefined;
      this.advance();
    }
  }
}
