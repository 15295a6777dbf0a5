// Whether two devices' results agree, and where they differ most.
import type { Tolerance } from './operation-case.ts';

export interface Difference {
  /** The largest difference over what is allowed; at most 1 is good. Infinity: shapes differ, or one is NaN. */
  readonly worst: number;
  readonly where: string;
}

export function compare(
  found: readonly Float32Array[],
  expected: readonly Float32Array[],
  { relative, absolute }: Tolerance,
): Difference {
  if (found.length !== expected.length) return { worst: Infinity, where: 'the number of results' };
  let worst = 0;
  let where = '';
  for (const [r, reference] of expected.entries()) {
    const result = found[r] as Float32Array;
    if (result.length !== reference.length) return { worst: Infinity, where: `the size of result ${r}` };
    for (const [i, want] of reference.entries()) {
      const got = result[i] as number;
      const error = excess(got, want, relative * Math.abs(want) + absolute);
      if (error <= worst) continue;
      worst = error;
      where = `result ${r}, element ${i}: ${got} instead of ${want}`;
    }
  }
  return { worst, where };
}

function excess(got: number, want: number, allowed: number): number {
  if (Object.is(got, want) || got === want) return 0;
  if (Number.isNaN(got) && Number.isNaN(want)) return 0;
  const difference = Math.abs(got - want);
  return Number.isFinite(difference) && allowed > 0 ? difference / allowed : Infinity;
}
