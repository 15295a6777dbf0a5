// What a failed write means for the reconcile that made it.
import { API_VERSION, KIND } from './api.ts';
import { ApiError, isConflict, isNamespaceTerminating } from './kube/errors.ts';
import type { Key } from './kube/object.ts';
import type { ChildObject } from './observed.ts';

/** A child's name is taken by an object that the deployment does not control; it is never touched. */
export class NameCollision extends Error {
  override readonly name = 'NameCollision';
  readonly code = 'name_collision';
  readonly kind: string;
  readonly key: Key;

  constructor(kind: string, key: Key, owner: string | undefined) {
    super(
      `${kind} ${key} exists and ${owner === undefined ? 'has no controller' : `is controlled by ${owner}`}: ` +
        `remove or rename it, or give the deployment another name`,
    );
    this.kind = kind;
    this.key = key;
  }
}

/** A child of a deleted deployment of the same name is still there; the garbage collector takes it away soon. */
export class LeftOver extends Error {
  override readonly name = 'LeftOver';
  readonly code = 'left_over';

  constructor(kind: string, key: Key) {
    super(`${kind} ${key} belongs to a deleted deployment of the same name: waiting until it is collected`);
  }
}

export type Refusal =
  /** A foreign object is in the way: told in the status, looked at again now and then. */
  | 'collision'
  /** Somebody else was faster: tried again soon, told nobody. */
  | 'conflict'
  /** The namespace is going away, and everything with it: nothing to do. */
  | 'terminating'
  /** Quota, rights, admission, validation: told in the status, tried again with backoff. */
  | 'refused'
  /** The API server did not answer as such: nothing else is tried in this reconcile. */
  | 'transient';

export function classify(error: unknown): Refusal {
  if (error instanceof NameCollision) return 'collision';
  if (error instanceof LeftOver || isConflict(error)) return 'conflict';
  if (!(error instanceof ApiError)) return 'transient';
  if (isNamespaceTerminating(error)) return 'terminating';
  // A webhook that cannot be called comes as 500, and may stay so until somebody repairs it.
  if (error.status === 500 && error.message.includes('webhook')) return 'refused';
  const refused = error.status >= 400 && error.status < 500 && error.status !== 401 && error.status !== 408;
  return refused && error.status !== 429 ? 'refused' : 'transient';
}

/** Throws NameCollision or LeftOver unless `object` is controlled by the deployment with this uid and name. */
export function mustControl(
  object: ChildObject,
  owner: { readonly uid: string; readonly name: string },
): void {
  const references = object.metadata.ownerReferences;
  const controller = references?.find((reference) => reference.controller === true);
  if (controller?.uid === owner.uid) return;
  const { namespace, name } = object.metadata;
  const key = namespace === undefined ? name : `${namespace}/${name}`;
  if (controller?.kind === KIND && controller.apiVersion === API_VERSION && controller.name === owner.name)
    throw new LeftOver(object.kind, key);
  throw new NameCollision(
    object.kind,
    key,
    controller === undefined ? undefined : `${controller.kind} ${controller.name}`,
  );
}
