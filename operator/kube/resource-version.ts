// Resource versions of one resource are decimal numbers of any length that grow with every write (KEP-5504), too long for a JavaScript number.

const DECIMAL = /^[0-9]+$/;

/** Negative when `a` is older than `b`, 0 when equal, positive when newer; undefined when one of them is not a decimal number. */
export function compareResourceVersions(a: string, b: string): number | undefined {
  if (!DECIMAL.test(a) || !DECIMAL.test(b)) return a === b ? 0 : undefined;
  const left = a.replace(/^0+(?=.)/, '');
  const right = b.replace(/^0+(?=.)/, '');
  if (left.length !== right.length) return left.length - right.length;
  return left < right ? -1 : left > right ? 1 : 0;
}

/**
 * Whether a cache that has seen `seen` contains the write that returned `wanted`. Versions that cannot be compared count as reached: waiting for
 * them would never end.
 */
export function hasReached(seen: string | undefined, wanted: string): boolean {
  if (seen === undefined) return false;
  return (compareResourceVersions(seen, wanted) ?? 0) >= 0;
}
