import type { Key } from './object.ts';

/** The least that an object must have to be stored or written; generated models (all fields optional) and plain literals both fit. */
export interface Identified {
  readonly metadata?: {
    readonly name?: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
  };
}

/** `namespace/name`, or `name` for objects of the cluster. Throws when there is no name: such an object came from nowhere. */
export function keyFor(object: Identified): Key {
  const name = object.metadata?.name;
  if (name === undefined || name === '') throw new Error('an object without metadata.name has no key');
  return makeKey(object.metadata?.namespace, name);
}

export function makeKey(namespace: string | undefined, name: string): Key {
  return namespace === undefined || namespace === '' ? name : `${namespace}/${name}`;
}

export function splitKey(key: Key): { readonly namespace: string | undefined; readonly name: string } {
  const slash = key.indexOf('/');
  return slash < 0
    ? { namespace: undefined, name: key }
    : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}
