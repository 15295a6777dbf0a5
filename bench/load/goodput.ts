// Which answers were good enough: a request counts when it was answered and met every limit.
import { InvalidArgumentError } from 'commander';

/** Limits in milliseconds. `itl` is the longest pause between two pieces of an answer, `tpot` the mean time of a token after the first. */
export type Limits = { readonly [name in LimitName]?: number };
export type LimitName = 'ttft' | 'itl' | 'tpot' | 'e2e';

/** The times of one answer in milliseconds; those an answer of one token does not have are undefined. */
export type Times = { readonly [name in LimitName]: number | undefined };

const NAMES: ReadonlySet<string> = new Set(['ttft', 'itl', 'tpot', 'e2e'] satisfies LimitName[]);

/** Reads `ttft:500,itl:50`. */
export function parseLimits(text: string): Limits {
  const limits: Record<string, number> = {};
  for (const part of text.split(',')) {
    const [name = '', value = '', ...rest] = part.split(':');
    if (!NAMES.has(name) || rest.length > 0)
      throw new InvalidArgumentError(
        `'${part}' is not NAME:MILLISECONDS; the names are ${[...NAMES].join(', ')}.`,
      );
    if (name in limits) throw new InvalidArgumentError(`${name} is given twice.`);
    if (!(Number(value) > 0))
      throw new InvalidArgumentError(`'${part}': the limit must be a number of milliseconds above 0.`);
    limits[name] = Number(value);
  }
  return limits;
}

/** Whether an answer met every limit; a time that it does not have breaks none. */
export function isGood(times: Times, limits: Limits): boolean {
  return Object.entries(limits).every(([name, limit]) => (times[name as LimitName] ?? 0) <= limit);
}
