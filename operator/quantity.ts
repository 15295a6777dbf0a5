// Kubernetes quantities and Go durations as numbers. The schema has checked the shape; these still refuse what they cannot read.

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

/** Whole bytes of a number or a quantity such as 8Gi; throws RangeError. */
export function bytesOf(quantity: number | string): number {
  const match = /^([0-9]+(?:\.[0-9]+)?)([a-zA-Z]*)$/.exec(String(quantity));
  const unit = UNITS[match?.[2] ?? ''];
  const bytes = match === null || unit === undefined ? Number.NaN : Math.floor(Number(match[1]) * unit);
  if (!Number.isSafeInteger(bytes)) throw new RangeError(`${quantity} is no quantity of bytes`);
  return bytes;
}

const MILLISECONDS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds of a duration such as 500ms, 60s or 1m30s; throws RangeError. */
export function millisecondsOf(duration: string): number {
  if (!/^([0-9]+(ms|s|m|h))+$/.test(duration)) throw new RangeError(`${duration} is no duration`);
  let total = 0;
  for (const [, count, unit] of duration.matchAll(/([0-9]+)(ms|s|m|h)/g))
    total += Number(count) * (MILLISECONDS[unit ?? ''] ?? Number.NaN);
  return total;
}

/** Kubernetes writes quantities as strings; numbers of a manifest would differ from what the API server gives back. */
export function quantities(values: Readonly<Record<string, number | string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, String(value)]));
}
