import { Histogram, Registry } from 'prom-client';
import { expect, it } from 'vitest';
import { FastHistogram } from './fast-histogram.ts';

const configuration = { name: 'seconds', help: 'Time', buckets: [0.1, 0.5, 2] };

async function exposed(
  observations: readonly number[],
  Kind: typeof Histogram | typeof FastHistogram,
): Promise<string> {
  const registry = new Registry();
  const histogram = new Kind({ ...configuration, registers: [registry] });
  for (const value of observations) histogram.observe(value);
  return registry.metrics();
}

it.each([
  ['nothing', []],
  ['values inside, between, on and above the bounds', [0.05, 0.1, 0.3, 0.5, 1, 2, 7]],
])("exposes the same as prom-client's histogram: %s", async (_, observations) => {
  expect(await exposed(observations, FastHistogram)).toBe(await exposed(observations, Histogram));
});
