// Writes gen/crd/internvl-deployment.ts from crds/internvldeployments.yaml, so that the CRD is the one source of truth. --out FOLDER writes
// it there instead.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { compile } from 'json-schema-to-typescript';
import { parse } from 'yaml';

const source = new URL('../crds/internvldeployments.yaml', import.meta.url);
const { values } = parseArgs({ options: { out: { type: 'string' } } });
const folder = values.out ?? fileURLToPath(new URL('../gen/crd', import.meta.url));

interface Crd {
  readonly spec: { readonly versions: readonly { readonly schema: { readonly openAPIV3Schema: Schema } }[] };
}
type Schema = { [key: string]: unknown };

const crd = parse(await readFile(source, 'utf8'), { merge: true }) as Crd;
const version = crd.spec.versions[0];
if (version === undefined) throw new Error('crds/internvldeployments.yaml: spec.versions is empty');

const schema = closed(structuredClone(version.schema.openAPIV3Schema)) as Schema;
const properties = schema['properties'] as Record<string, Schema>;
// The API server adds no schema to metadata; readers of ours need these.
properties['metadata'] = {
  type: 'object',
  required: ['name'],
  properties: {
    name: { type: 'string' },
    namespace: { type: 'string' },
    uid: { type: 'string' },
    resourceVersion: { type: 'string' },
    creationTimestamp: { type: 'string' },
    generation: { type: 'integer' },
    labels: { type: 'object', additionalProperties: { type: 'string' } },
    annotations: { type: 'object', additionalProperties: { type: 'string' } },
    deletionTimestamp: { type: 'string' },
  },
  additionalProperties: false,
};
const text = await compile(schema, 'InternVLDeployment', {
  additionalProperties: false,
  ignoreMinAndMaxItems: true,
  bannerComment:
    '// Generated from crds/internvldeployments.yaml by tools/generate-crd-types.ts. DO NOT EDIT.',
  style: { singleQuote: true, printWidth: 110 },
});
await mkdir(folder, { recursive: true });
await writeFile(join(folder, 'internvl-deployment.ts'), text);

/** Defaults are applied before anything reads a deployment, so a property with a default is always there. */
function closed(node: unknown): unknown {
  if (typeof node !== 'object' || node === null) return node;
  if (Array.isArray(node)) return node.map(closed);
  const object = node as Schema;
  const children = object['properties'] as Record<string, Schema> | undefined;
  if (children !== undefined) {
    const required = new Set((object['required'] as string[] | undefined) ?? []);
    for (const [name, child] of Object.entries(children))
      if (child['default'] !== undefined) required.add(name);
    object['required'] = [...required];
  }
  // In a CRD an int-or-string states its pattern beside anyOf; for types the union alone matters.
  if (object['x-kubernetes-int-or-string'] === true) {
    return { description: object['description'], type: ['integer', 'string'] };
  }
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, closed(value)]));
}
