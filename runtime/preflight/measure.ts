// Measures the links of one group with the collectives that the model uses. Runs on every rank at once, in lockstep: one rank takes the time and says
// how often something is repeated, so that all of them do the same.

import type { Native } from '../native/index.ts';
import type { Measurement, PairTime, ReduceTime, Schedule } from './measurement.ts';

/** What is needed of the native operations. */
export type Links = Pick<
  Native,
  'allReduce' | 'broadcast' | 'swap' | 'allocate' | 'free' | 'mark' | 'release' | 'readRow'
>;

export interface MeasureOptions {
  readonly rank: number;
  readonly worldSize: number;
  readonly schedule: Schedule;
  /** Nanoseconds of a clock that only goes forward. */
  readonly now: () => bigint;
}

const PING_BYTES = 8;
const MOST_REPEATS = 500;
/** With the first one the fewest that have a median: one that was held up must not be the figure. */
const FEWEST_REPEATS = 2;
/** A share of a pair's time for its latency, which needs little. */
const LATENCY_SHARE = 0.2;

/** Measures a connected group; throws CollectiveError. */
export function measure(links: Links, options: MeasureOptions): Measurement {
  const { rank, worldSize, schedule } = options;
  const timing = new Timing(links, options);
  const half = (schedule.budgetMs / 2) * 1e6;
  const pairCount = (worldSize * (worldSize - 1)) / 2;
  const pairs: PairTime[] = [];
  for (let second = 1; second < worldSize; second += 1)
    for (let first = 0; first < second; first += 1)
      pairs.push(
        measurePair(links, timing, { first, second, bytes: schedule.pairBytes, rank }, half / pairCount),
      );

  const reduces: ReduceTime[] = [];
  for (const bytes of schedule.sizes) {
    // What the size before it took, in proportion: a size that does not fit is left out, and so are those above it.
    const before = reduces.at(-1);
    const expected = before === undefined ? 0 : (before.ns * bytes) / before.bytes;
    const share = half / schedule.sizes.length;
    if (!timing.agree(0, expected <= share)) break;
    reduces.push({ bytes, ns: measureReduce(links, timing, bytes, share) });
  }
  return { pairs, reduces };
}

function measureReduce(links: Links, timing: Timing, bytes: number, budgetNs: number): number {
  const x = links.allocate('float32', [1, bytes / 4]);
  const first = new Float32Array(1);
  try {
    return timing.median(0, budgetNs, () => {
      const mark = links.mark();
      links.allReduce(x);
      links.readRow(x, 0, first); // a device returns before it is done
      links.release(mark);
    });
  } finally {
    links.free(x);
  }
}

function measurePair(
  links: Links,
  timing: Timing,
  { first, second, bytes, rank }: { first: number; second: number; bytes: number; rank: number },
  budgetNs: number,
): PairTime {
  // Whoever is not of the pair only counts along.
  const size = rank === first || rank === second ? bytes : PING_BYTES;
  const out = new Uint8Array(size);
  const into = new Uint8Array(size);
  const swap = (length: number) => (): void =>
    links.swap(out.subarray(0, length), into.subarray(0, length), first, second);
  const latencyNs = timing.median(first, budgetNs * LATENCY_SHARE, swap(PING_BYTES));
  const ns = timing.median(first, budgetNs * (1 - LATENCY_SHARE), swap(size));
  return { first, second, bytes, ns, latencyNs };
}

class Timing {
  readonly #links: Links;
  readonly #rank: number;
  readonly #now: () => bigint;

  constructor(links: Links, { rank, now }: MeasureOptions) {
    this.#links = links;
    this.#rank = rank;
    this.#now = now;
  }

  /** The keeper's word, on every rank. */
  agree(keeper: number, word: boolean): boolean {
    return this.#tell(keeper, word ? 1 : 0) === 1;
  }

  /** The median time of what all ranks do together, in ns: repeated for about the budget, by the keeper's clock. */
  median(keeper: number, budgetNs: number, run: () => void): number {
    run(); // connections and memory are warm from here on
    const once = this.#timed(run);
    const fitting = Math.floor(budgetNs / once) - 2; // two were made already
    const repeats = this.#tell(keeper, Math.min(MOST_REPEATS, Math.max(FEWEST_REPEATS, fitting)));
    const times = [once];
    for (let count = 0; count < repeats; count += 1) times.push(this.#timed(run));
    const median = times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] ?? once;
    return this.#tell(keeper, median);
  }

  #timed(run: () => void): number {
    const begin = this.#now();
    run();
    return Math.max(1, Number(this.#now() - begin));
  }

  #tell(keeper: number, value: number): number {
    const word = Int32Array.of(this.#rank === keeper ? Math.min(0x7fffffff, Math.round(value)) : 0);
    this.#links.broadcast(word, keeper);
    return word[0] ?? 0;
  }
}
