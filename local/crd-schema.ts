import { readFileSync } from 'node:fs';
import { parse } from 'yaml';

export type Schema = { [key: string]: unknown };

/** The CRD's schema of a deployment, as the API server has it. */
export function readCrdSchema(): Schema {
  const file = new URL('../crds/internvldeployments.yaml', import.meta.url);
  const crd = parse(readFileSync(file, 'utf8')) as {
    spec: { versions: { schema: { openAPIV3Schema: Schema } }[] };
  };
  const schema = crd.spec.versions[0]?.schema.openAPIV3Schema;
  if (schema === undefined) throw new Error('crds/internvldeployments.yaml has no version');
  return schema;
}

/** The schema with unknown fields refused, as the API server refuses them under strict field validation. */
export function strict(schema: Schema): Schema {
  return walk(schema, true) as Schema;
}

function walk(node: unknown, isRoot = false): unknown {
  if (typeof node !== 'object' || node === null) return node;
  if (Array.isArray(node)) return node.map((child) => walk(child));
  const copy: Schema = {};
  for (const [key, value] of Object.entries(node)) {
    // A property may be called like a keyword: its name is not a place for keywords.
    if (key === 'properties') copy[key] = mapValues(value as Schema, (child) => walk(child));
    else if (key !== 'default') copy[key] = walk(value);
    else copy[key] = value;
  }
  if (copy['properties'] !== undefined && copy['additionalProperties'] === undefined)
    copy['additionalProperties'] = false;
  if (isRoot) {
    const properties = copy['properties'] as Record<string, Schema>;
    properties['metadata'] = METADATA;
    properties['apiVersion'] = { const: 'internvl.dev/v1alpha1' };
    properties['kind'] = { const: 'InternVLDeployment' };
  }
  return copy;
}

const STRINGS = { type: 'object', additionalProperties: { type: 'string' } };

/** What of the object's metadata has a meaning here; the API server has its own schema of it. */
const METADATA: Schema = {
  type: 'object',
  required: ['name'],
  additionalProperties: false,
  properties: {
    name: {
      type: 'string',
      maxLength: 253,
      pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
    },
    namespace: { type: 'string', maxLength: 63, pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$' },
    labels: STRINGS,
    annotations: STRINGS,
    uid: { type: 'string' },
    generation: { type: 'integer' },
    resourceVersion: { type: 'string' },
    creationTimestamp: {},
    deletionTimestamp: { type: 'string' },
    finalizers: { type: 'array', items: { type: 'string' } },
    ownerReferences: { type: 'array', items: { type: 'object' } },
    managedFields: { type: 'array', items: { type: 'object' } },
    selfLink: { type: 'string' },
  },
};

function mapValues(values: Schema, change: (value: unknown) => unknown): Schema {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, change(value)]));
}
