import { uniform } from '../../runtime/engine/seeded-random.ts';

/** Send times in milliseconds after the start: a Poisson process of `rate` a second, up to `durationMs`. The same seed gives the same times. */
export function* poissonArrivals(rate: number, durationMs: number, seed: bigint): Generator<number> {
  let at = 0;
  for (let index = 0; ; index++) {
    at += (-Math.log(1 - uniform(seed, index)) / rate) * 1000;
    if (at >= durationMs) return;
    yield at;
  }
}
