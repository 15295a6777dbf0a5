// A histogram that costs an addition for each value: one is observed for each token of each stream. It becomes what prom-client
// understands when it is scraped.

import type { Histogram, Registry } from 'prom-client';

export interface LatencyOptions {
  readonly name: string;
  readonly help: string;
  /** Upper bounds in seconds, rising. */
  readonly buckets: readonly number[];
  readonly registry: Registry;
}

interface Value {
  readonly metricName: string;
  readonly labels: { readonly le?: number | string };
  readonly value: number;
}

/** Without labels. */
export class LatencyHistogram {
  readonly name: string;
  readonly help: string;
  readonly type = 'histogram';
  readonly aggregator = 'sum';
  readonly #buckets: readonly number[];
  /** Values in each bucket alone; the last one is for those above all bounds. */
  readonly #counts: Float64Array;
  #sum = 0;

  constructor({ name, help, buckets, registry }: LatencyOptions) {
    this.name = name;
    this.help = help;
    this.#buckets = buckets;
    this.#counts = new Float64Array(buckets.length + 1);
    // A registry asks a metric for its name and its values; the declared type lists prom-client's own classes.
    registry.registerMetric(this as unknown as Histogram);
  }

  observe(seconds: number): void {
    const buckets = this.#buckets;
    let index = 0;
    while (index < buckets.length && seconds > buckets[index]!) index++;
    this.#counts[index]!++;
    this.#sum += seconds;
  }

  reset(): void {
    this.#counts.fill(0);
    this.#sum = 0;
  }

  get(): Promise<object> {
    const { name, help, type, aggregator } = this;
    const values: Value[] = [];
    let count = 0;
    for (const [index, inBucket] of this.#counts.entries()) {
      count += inBucket;
      values.push({
        metricName: `${name}_bucket`,
        labels: { le: this.#buckets[index] ?? '+Inf' },
        value: count,
      });
    }
    values.push({ metricName: `${name}_sum`, labels: {}, value: this.#sum });
    values.push({ metricName: `${name}_count`, labels: {}, value: count });
    return Promise.resolve({ name, help, type, aggregator, values });
  }
}
