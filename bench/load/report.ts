import type { Percentiles } from './distribution.ts';
import type { Load } from './load.ts';
import type { Measured } from './measurement.ts';

export interface LoadResult extends Measured {
  readonly load: Load;
}

/** A client that sends later than this no longer sends what it was told to. */
const LATE_MS = 20;
const COLUMNS = ['p50', 'p90', 'p95', 'p99', 'max'] as const;

export function nameOf(load: Load): string {
  return load.kind === 'open' ? `${load.rate} requests/s` : `${load.concurrency} at a time`;
}

/** What one load came to, for people. */
export function describe(result: LoadResult): string {
  const { requests, answered, goodput, usage, lag } = result;
  const share = (part: number) => `${(100 * part).toFixed(1)} %`;
  const lines = [
    `${nameOf(result.load)}: ${requests} asked, ${answered} answered; ` +
      `${number(result.requestsPerSecond)} requests/s, ${number(result.tokensPerSecond)} tokens/s` +
      (goodput === null
        ? ''
        : `; goodput ${number(goodput.requestsPerSecond)} requests/s (${share(goodput.share)})`),
    row('milliseconds', COLUMNS),
    latencies('first token', result.ttft),
    latencies('between pieces', result.itl),
    latencies('per token after it', result.tpot),
    latencies('whole answer', result.e2e),
    `  prompts of ${number(usage.promptTokens)} tokens on average, ${number(usage.imageTokens)} of pictures, ${number(usage.cachedTokens)} found in the cache`,
  ];
  const errors = Object.entries(result.errors).map(([code, count]) => `${count} ${code}`);
  if (errors.length > 0) lines.push(`  failed: ${errors.join(', ')}`);
  if (lag !== null && lag.p99 > LATE_MS)
    lines.push(
      `  this client was late: it sent ${number(lag.p99)} ms after time at p99; give it more of the machine, or ask less of it`,
    );
  return lines.join('\n');
}

function latencies(name: string, percentiles: Percentiles | null): string {
  return row(
    name,
    COLUMNS.map((column) => (percentiles === null ? '-' : number(percentiles[column]))),
  );
}

function row(name: string, values: readonly string[]): string {
  return `  ${name.padEnd(20)}${values.map((value) => value.padStart(9)).join('')}`;
}

function number(value: number): string {
  if (value === 0) return '0';
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
