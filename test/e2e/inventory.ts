// Every object of the cluster by name, to find what an installation leaves behind.

import type { Kubernetes } from './kubernetes.ts';

// Written by Kubernetes itself all the time, or long after what they tell of.
const PASSING = /^(events?(\.events\.k8s\.io)?|endpoints|leases?\.coordination\.k8s\.io|componentstatuses)$/;

/** `resource namespace/name` of everything that the API server lists, of all namespaces; passing things left out. */
export async function inventory(kubernetes: Kubernetes): Promise<Set<string>> {
  const resources = (await kubernetes.kubectl('api-resources', '--verbs=list', '-o', 'name'))
    .split('\n')
    .filter((name) => name !== '' && !PASSING.test(name));
  const format = 'jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{"\\n"}{end}';
  const text = await kubernetes.kubectl('get', resources.join(','), '-A', '-o', format, '--ignore-not-found');
  return new Set(text.split('\n').filter((line) => line !== ''));
}

/** What is there now and was not before, outside of the given namespaces, where other things come and go. */
export function difference(
  now: ReadonlySet<string>,
  before: ReadonlySet<string>,
  except: readonly string[],
): string[] {
  return [...now]
    .filter((name) => !before.has(name) && !except.some((namespace) => name.includes(` ${namespace}/`)))
    .toSorted();
}
