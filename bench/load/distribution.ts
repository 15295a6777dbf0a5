// Latencies as a histogram: memory stays the same however many are recorded, and a percentile is right to three figures.
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';

const MICROSECONDS = 1000;
const HIGHEST = 3600 * 1e6;

/** Milliseconds; null where nothing was recorded. */
export interface Percentiles {
  readonly p50: number;
  readonly p90: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
}

/** A distribution of times from 1 µs to one hour; what lies beyond counts as that. */
export class Distribution {
  readonly #histogram: RecordableHistogram = createHistogram({ lowest: 1, highest: HIGHEST, figures: 3 });

  record(ms: number): void {
    this.#histogram.record(Math.min(HIGHEST, Math.max(1, Math.round(ms * MICROSECONDS))));
  }

  get count(): number {
    return this.#histogram.count;
  }

  percentiles(): Percentiles | null {
    if (this.count === 0) return null;
    const at = (percentile: number) => this.#histogram.percentile(percentile) / MICROSECONDS;
    return { p50: at(50), p90: at(90), p95: at(95), p99: at(99), max: this.#histogram.max / MICROSECONDS };
  }
}
