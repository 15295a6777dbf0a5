// Writes docs/api.md from crds/internvldeployments.yaml. --out FILE writes it there instead.
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { format } from 'prettier';
import { parse } from 'yaml';

interface Schema {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly maxLength?: number;
  readonly maxItems?: number;
  readonly maxProperties?: number;
  readonly pattern?: string;
  readonly format?: string;
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly additionalProperties?: Schema;
  readonly 'x-kubernetes-int-or-string'?: boolean;
  readonly 'x-kubernetes-validations'?: readonly { readonly message?: string }[];
}

const source = new URL('../crds/internvldeployments.yaml', import.meta.url);
const { values } = parseArgs({ options: { out: { type: 'string' } } });
const out = values.out ?? fileURLToPath(new URL('../docs/api.md', import.meta.url));

const crd = parse(await readFile(source, 'utf8'), { merge: true, maxAliasCount: -1 }) as {
  spec: { versions: readonly { readonly name: string; readonly schema: { openAPIV3Schema: Schema } }[] };
};
const version = crd.spec.versions[0];
if (version === undefined) throw new Error('crds/internvldeployments.yaml: spec.versions is empty');
const root = version.schema.openAPIV3Schema;

const text = `<!-- Generated from crds/internvldeployments.yaml by tools/generate-api-docs.ts. DO NOT EDIT. -->

# InternVLDeployment

${root.description ?? ''}

\`apiVersion: internvl.dev/${version.name}\`, \`kind: InternVLDeployment\`; short name \`ivl\`. Fields that are not listed are refused by the API server.
A setting that this release cannot honour has no field: there is none for TLS or authentication of clients, which a mesh or a gateway in
front of the Service can do.

## spec

${table(root.properties?.['spec'], 'spec')}

## status

${table(root.properties?.['status'], 'status')}
`;
await writeFile(out, await format(text, { parser: 'markdown', printWidth: 110, singleQuote: true }));

function table(schema: Schema | undefined, path: string): string {
  if (schema === undefined) throw new Error(`crds/internvldeployments.yaml: ${path} has no schema`);
  const rows = fieldsOf(schema, path).map(
    ({ path: name, schema: field, required }) =>
      `| \`${name}\`${required ? ' (required)' : ''} | ${typeOf(field)} | ${defaultOf(field)} | ${meaningOf(field)} |`,
  );
  return ['| Field | Type | Default | Meaning |', '| --- | --- | --- | --- |', ...rows].join('\n');
}

interface Field {
  readonly path: string;
  readonly schema: Schema;
  readonly required: boolean;
}

/** Every field below a schema, each before its own fields; list items as path[]. */
function fieldsOf(schema: Schema, path: string): Field[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const own = {
      path: `${path}.${name}`,
      schema: field,
      required: schema.required?.includes(name) ?? false,
    };
    const items = field.items === undefined ? [] : fieldsOf(field.items, `${own.path}[]`);
    return [own, ...fieldsOf(field, own.path), ...items];
  });
}

function typeOf(schema: Schema): string {
  if (schema['x-kubernetes-int-or-string'] === true) return 'quantity';
  if (schema.enum !== undefined) return schema.enum.map((value) => `\`${String(value)}\``).join(', ');
  if (schema.items !== undefined) return `list of ${typeOf(schema.items)}`;
  if (schema.additionalProperties !== undefined) return `map to ${typeOf(schema.additionalProperties)}`;
  return schema.format === 'date-time' ? 'time' : (schema.type ?? '');
}

function defaultOf(schema: Schema): string {
  const { default: value } = schema;
  if (value === undefined || (typeof value === 'object' && value !== null)) return '';
  return `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``;
}

function meaningOf(schema: Schema): string {
  const { minimum, maximum, maxLength, maxItems, maxProperties } = schema;
  const range =
    minimum !== undefined && maximum !== undefined
      ? `From ${minimum} to ${maximum}.`
      : minimum !== undefined
        ? `At least ${minimum}.`
        : '';
  const bounds = [
    maxItems === undefined ? '' : `At most ${maxItems}.`,
    maxProperties === undefined ? '' : `At most ${maxProperties}.`,
    maxLength !== undefined && maxLength > 64 ? `At most ${maxLength} characters.` : '',
  ];
  const rules = (schema['x-kubernetes-validations'] ?? []).map(({ message = '' }) => `Rule: ${message}.`);
  return [schema.description ?? '', range, ...bounds, ...rules]
    .filter((part) => part !== '')
    .join(' ')
    .replaceAll(/\s+/g, ' ')
    .replaceAll('|', '\\|')
    .replaceAll('*', '\\*');
}
