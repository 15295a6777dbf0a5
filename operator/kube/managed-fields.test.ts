import { describe, expect, it } from 'vitest';
import { countedAsApplied, type ManagedFields } from './managed-fields.ts';

const entry = (manager: string, operation: string, fieldsV1: object, rest: object = {}): ManagedFields => ({
  manager,
  operation,
  apiVersion: 'v1',
  fieldsType: 'FieldsV1',
  fieldsV1: fieldsV1 as never,
  ...rest,
});
const LABEL = { 'f:metadata': { 'f:labels': { 'f:a': {} } } };
const DATA = { 'f:data': { '.': {}, 'f:x': {} } };

describe('countedAsApplied', () => {
  it('turns what was created into what was applied and leaves others alone', () => {
    const kubectl = entry('kubectl', 'Update', DATA);
    expect(countedAsApplied([entry('op', 'Update', LABEL), kubectl], 'op')).toEqual([
      kubectl,
      entry('op', 'Apply', LABEL),
    ]);
  });

  it('joins it to what the manager has applied since', () => {
    const entries = [
      entry('op', 'Apply', LABEL),
      entry('op', 'Update', { ...DATA, 'f:metadata': { 'f:labels': { 'f:b': {} } } }),
    ];
    expect(countedAsApplied(entries, 'op')).toEqual([
      entry('op', 'Apply', { ...DATA, 'f:metadata': { 'f:labels': { 'f:a': {}, 'f:b': {} } } }),
    ]);
  });

  it.each([
    ['nothing of this manager', [entry('kubectl', 'Update', DATA)]],
    ['all of it applied', [entry('op', 'Apply', DATA)]],
    ['only a subresource updated', [entry('op', 'Update', DATA, { subresource: 'status' })]],
    ['no entries', []],
  ])('has nothing to do with %s', (_case, entries) => {
    expect(countedAsApplied(entries, 'op')).toBeUndefined();
  });
});
