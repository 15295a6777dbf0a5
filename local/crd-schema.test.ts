import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { readCrdSchema, strict, type Schema } from './crd-schema.ts';
import { parseManifest } from './manifest.ts';

/** Every schema node with its path. */
function nodes(schema: Schema, path = ''): [string, Schema][] {
  const properties = Object.entries((schema['properties'] ?? {}) as Record<string, Schema>);
  const others = ['items', 'additionalProperties'].flatMap((key) => {
    const child = schema[key];
    return typeof child === 'object' && child !== null ? [[`[${key}]`, child as Schema] as const] : [];
  });
  const children = [...properties, ...others].flatMap(([name, child]) => nodes(child, `${path}.${name}`));
  return [[path, schema], ...children];
}

describe('the CRD', () => {
  it('describes every field', () => {
    // Of metadata the API server takes nothing but a type.
    const fields = nodes(readCrdSchema()).filter(([path]) => !path.endsWith(']') && path !== '.metadata');
    expect(fields.length).toBeGreaterThan(50);
    expect(
      fields.filter(([, { description }]) => typeof description !== 'string').map(([path]) => path),
    ).toEqual([]);
  });

  it('is structural: every node has a type or is an int-or-string', () => {
    const untyped = nodes(readCrdSchema()).filter(
      ([, node]) => typeof node['type'] !== 'string' && node['x-kubernetes-int-or-string'] !== true,
    );
    expect(untyped.map(([path]) => path)).toEqual([]);
  });

  it('bounds every list', () => {
    const lists = nodes(readCrdSchema()).filter(
      ([path, node]) => path.startsWith('.spec') && node['type'] === 'array',
    );
    expect(lists.filter(([, { maxItems }]) => typeof maxItems !== 'number')).toEqual([]);
  });

  it('refuses unknown fields everywhere when strict', () => {
    const open = nodes(strict(readCrdSchema())).filter(
      ([, node]) => node['properties'] !== undefined && node['additionalProperties'] !== false,
    );
    expect(open.map(([path]) => path)).toEqual([]);
  });
});

describe('the examples', () => {
  const folder = new URL('../examples/', import.meta.url);
  const files = readdirSync(folder).filter((name) => name.endsWith('.yaml'));

  it('are there', () => expect(files).toContain('demo.yaml'));

  it.each(files)('%s is a good manifest', (file) => {
    const documents = parseAllDocuments(readFileSync(new URL(file, folder), 'utf8'));
    const own = [...documents].filter((document) => document.get('kind') === 'InternVLDeployment');
    expect(own).not.toEqual([]);
    for (const document of own) expect(parseManifest(String(document), file).metadata.name).not.toBe('');
  });
});
