// Randomness as a function of (seed, position): the draw for a token does not depend on what else was drawn, so a sequence gives the same
// tokens alone, in a batch, or after it was preempted.

/** A number in [0, 1) with 53 random bits. seed: 64 bits are used; position: of the token in its sequence. */
export function uniform(seed: bigint, position: number): number {
  const low = Number(BigInt.asUintN(32, seed));
  const high = Number(BigInt.asUintN(32, seed >> 32n));
  const a = mix(mix(mix(0x9e3779b9, low), high), position);
  const b = mix(mix(mix(0x7f4a7c15, high), low), position);
  return ((a >>> 5) * 67_108_864 + (b >>> 6)) / 9_007_199_254_740_992;
}

/** Unsigned 32 bits: `value` folded into `state` and avalanched (the finaliser of MurmurHash3, a bijection). */
export function mix(state: number, value: number): number {
  let hash = (Math.imul(state, 0x9e3779b1) + value + 0x6a09e667) | 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
