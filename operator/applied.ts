// Whether a child needs to be applied. The hash of what was applied last tells when a field was taken away or changed by us; the comparison with
// the cached object tells when somebody else changed one. The API server adds defaults and rewrites quantities, which is no difference.
import { createHash } from 'node:crypto';
import { ANNOTATIONS } from './api.ts';
import type { ChildObject } from './observed.ts';

/** The object with the hash of itself as annotation; equal objects have equal hashes, whatever the order of their keys. */
export function withAppliedHash(object: ChildObject): ChildObject {
  const { annotations } = object.metadata;
  if (annotations?.[ANNOTATIONS.appliedHash] !== undefined) return object;
  const hash = createHash('sha256').update(JSON.stringify(object, sortedKeys)).digest('hex').slice(0, 16);
  return {
    ...object,
    metadata: { ...object.metadata, annotations: { ...annotations, [ANNOTATIONS.appliedHash]: hash } },
  };
}

/** True when applying `desired` (with its hash) could change `observed`. */
export function needsApply(desired: ChildObject, observed: ChildObject): boolean {
  const hash = desired.metadata.annotations?.[ANNOTATIONS.appliedHash];
  if (hash === undefined || observed.metadata.annotations?.[ANNOTATIONS.appliedHash] !== hash) return true;
  return !isSubset(desired, observed);
}

function sortedKeys(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
}

/** Lists that the API merges by a key: what others added to them is theirs and stays. */
const ASSOCIATIVE = new Set([
  'containers',
  'initContainers',
  'env',
  'volumes',
  'volumeMounts',
  'ports',
  'ownerReferences',
  'imagePullSecrets',
]);

/** Every field of `desired` is in `observed` with its value; absent, empty, false and 0 are one, and so are two spellings of a quantity. */
export function isSubset(desired: unknown, observed: unknown, field = ''): boolean {
  if (desired === observed) return true;
  if (isZero(desired)) return isZero(observed) || isPlainObject(desired);
  if (Array.isArray(desired)) return Array.isArray(observed) && isListSubset(desired, observed, field);
  if (isPlainObject(desired)) {
    if (!isPlainObject(observed)) return false;
    return Object.entries(desired).every(([key, value]) => isSubset(value, observed[key], key));
  }
  return isEqualScalar(desired, observed);
}

function isListSubset(desired: readonly unknown[], observed: readonly unknown[], field: string): boolean {
  if (ASSOCIATIVE.has(field))
    return desired.every((wanted) => observed.some((candidate) => isSubset(wanted, candidate)));
  return (
    desired.length === observed.length && desired.every((wanted, index) => isSubset(wanted, observed[index]))
  );
}

function isEqualScalar(desired: unknown, observed: unknown): boolean {
  if (observed === undefined || observed === null) return false;
  const [a, b] = [quantityOf(desired), quantityOf(observed)];
  if (a === undefined || b === undefined) return false;
  // Quantities are decimal: what differs by less than rounding is the same text written otherwise.
  return a === b || Math.abs(a - b) <= Math.abs(a) * 1e-12;
}

const SUFFIXES: Readonly<Record<string, number>> = {
  '': 1,
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

function quantityOf(value: unknown): number | undefined {
  if (typeof value === 'number') return value;
  if (typeof value !== 'string') return undefined;
  const match = /^([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$/.exec(
    value,
  );
  if (match === null) return undefined;
  return Number(match[1]) * (SUFFIXES[match[2] ?? ''] ?? Number.NaN);
}

function isZero(value: unknown): boolean {
  if (value === undefined || value === null || value === '' || value === false || value === 0) return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

function isPlainObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
