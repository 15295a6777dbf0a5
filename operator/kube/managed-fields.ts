// Who owns which field, as the API server keeps it. A field that server-side apply no longer names goes away only if the same manager once *applied* it;
// what that manager set by POST counts as an update and would stay for ever.

/** One entry of metadata.managedFields. */
export interface ManagedFields {
  readonly manager?: string;
  readonly operation?: string;
  readonly subresource?: string;
  readonly fieldsV1?: FieldSet;
  readonly [field: string]: unknown;
}

/** FieldsV1: a tree whose keys are path elements. */
export interface FieldSet {
  readonly [element: string]: FieldSet;
}

/** The entries with what `manager` set by create or update counted as applied; undefined when there is nothing of that. */
export function countedAsApplied(
  entries: readonly ManagedFields[],
  manager: string,
): ManagedFields[] | undefined {
  const isMain = (entry: ManagedFields): boolean => entry.manager === manager && !entry.subresource;
  const updated = entries.filter((entry) => isMain(entry) && entry.operation === 'Update');
  const [first] = updated;
  if (first === undefined) return undefined;
  const applied = entries.find((entry) => isMain(entry) && entry.operation === 'Apply');
  const own = [...(applied === undefined ? [] : [applied]), ...updated];
  const fieldsV1 = own.map((entry) => entry.fieldsV1 ?? {}).reduce(union);
  const others = entries.filter((entry) => !own.includes(entry));
  return [...others, { ...(applied ?? first), operation: 'Apply', fieldsV1 }];
}

function union(a: FieldSet, b: FieldSet): FieldSet {
  const result: Record<string, FieldSet> = { ...a };
  for (const [element, below] of Object.entries(b)) {
    const there = result[element];
    result[element] = there === undefined ? below : union(there, below);
  }
  return result;
}
