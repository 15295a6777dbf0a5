import type { Resource } from './object.ts';

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

/**
 * The API's path of one object, or of a collection when `name` is absent: core kinds under /api, all others under /apis. Throws when an object of a
 * namespaced kind is named without its namespace (the path would name something else).
 */
export function resourcePath(
  resource: Resource,
  where: {
    readonly namespace?: string | undefined;
    readonly name?: string | undefined;
    readonly subresource?: string | undefined;
  },
): string {
  const { namespace, name, subresource } = where;
  if (resource.namespaced && name !== undefined && !namespace)
    throw new Error(`${resource.kind} ${name} needs a namespace`);
  const segments = [resource.apiVersion.includes('/') ? 'apis' : 'api', ...resource.apiVersion.split('/')];
  if (resource.namespaced && namespace) segments.push('namespaces', namespace);
  segments.push(resource.plural);
  if (name !== undefined) segments.push(name);
  if (subresource !== undefined) segments.push(...subresource.split('/'));
  if (segments.some((segment) => segment === '' || segment === '.' || segment === '..'))
    throw new Error(`${resource.kind}: not a path: ${segments.join('/')}`);
  return `/${segments.map(encodeURIComponent).join('/')}`;
}

/** `?a=1&b=2`, or nothing; undefined values are left out, empty strings are not (resourceVersion "" has a meaning). */
export function queryString(query: Query): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, String(value));
  const text = search.toString();
  return text === '' ? '' : `?${text}`;
}
