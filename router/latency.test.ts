import { Histogram, Registry } from 'prom-client';
import { expect, it } from 'vitest';
import { LatencyHistogram } from './latency.ts';

const OPTIONS = { name: 'wait_seconds', help: 'Time waited', buckets: [0.005, 0.1, 1, 10] };
const VALUES = [0, 0.005, 0.0051, 0.1, 0.7, 3, 10, 11, 0.02];

it('says what a histogram of prom-client says', async () => {
  const ours = new Registry();
  const theirs = new Registry();
  const histogram = new LatencyHistogram({ ...OPTIONS, registry: ours });
  const reference = new Histogram({ ...OPTIONS, registers: [theirs] });
  for (const value of VALUES) {
    histogram.observe(value);
    reference.observe(value);
  }
  expect(await ours.metrics()).toBe(await theirs.metrics());
  expect(await ours.getMetricsAsJSON()).toHaveLength(1);
});

it('starts at zero and goes back to it', async () => {
  const registry = new Registry();
  const histogram = new LatencyHistogram({ ...OPTIONS, registry });
  const empty = await registry.metrics();
  expect(empty).toContain('wait_seconds_count 0');
  histogram.observe(1);
  expect(await registry.metrics()).not.toBe(empty);
  registry.resetMetrics();
  expect(await registry.metrics()).toBe(empty);
});
