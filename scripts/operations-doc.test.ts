// Every reason that a condition can have is in docs/operations.md.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (path: string): string => readFileSync(root + path, 'utf8');

const doc = read('docs/operations.md');
const reasons = [
  ...read('operator/conditions.ts').matchAll(/\b(?:yes|no|unknown|verdict)\(\s*'([A-Z][A-Za-z]+)'/g),
  ...read('operator/conditions.ts').matchAll(/\? '([A-Z][A-Za-z]+)'/g),
  ...['rollout', 'plan', 'group', 'interconnect'].flatMap((file) => [
    ...read(`operator/${file}.ts`).matchAll(/\breason: '([A-Z][A-Za-z]+)'/g),
  ]),
].map(([, reason = '']) => reason);

describe('docs/operations.md', () => {
  it('is checked against the reasons in the sources', () => {
    expect(new Set(reasons).size).toBeGreaterThan(20);
    expect(reasons).toContain('RestartBudgetExhausted');
  });

  it.each([...new Set(reasons)].toSorted())('says what to do about %s', (reason) => {
    expect(doc).toMatch(new RegExp(`\\b${reason}\\b`));
  });
});
