// Every reason that a condition can have is in docs/operations.md.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { GATES } from '../runtime/preflight/gates.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (path: string): string => readFileSync(root + path, 'utf8');

const doc = read('docs/operations.md');
const reasons = [
  ...read('operator/conditions.ts').matchAll(/\b(?:yes|no|unknown|verdict)\(\s*'([A-Z][A-Za-z]+)'/g),
  ...read('operator/conditions.ts').matchAll(/\? '([A-Z][A-Za-z]+)'/g),
  ...['rollout', 'plan', 'group', 'interconnect', 'measured-interconnect'].flatMap((file) => [
    ...read(`operator/${file}.ts`).matchAll(/\breason: '([A-Z][A-Za-z]+)'/g),
  ]),
].map(([, reason = '']) => reason);
/** Each becomes the reason of InterconnectVerified. */
const gates = GATES.map(({ name }) => name);

describe('docs/operations.md', () => {
  it('is checked against the reasons in the sources', () => {
    expect(new Set(reasons).size).toBeGreaterThan(20);
    expect(reasons).toContain('RestartBudgetExhausted');
  });

  it.each(gates)('and docs/interconnect.md say what to do about the gate %s', (gate) => {
    for (const text of [doc, read('docs/interconnect.md')]) expect(text).toMatch(new RegExp(`\\b${gate}\\b`));
  });

  it.each([...new Set(reasons)].toSorted())('says what to do about %s', (reason) => {
    expect(doc).toMatch(new RegExp(`\\b${reason}\\b`));
  });
});
