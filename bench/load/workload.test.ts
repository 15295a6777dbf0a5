import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { GenerateRequest } from '../../gen/proto/internvl/v1/inference.ts';
import { askOf, parseMixes, Workload, type WorkloadOptions } from './workload.ts';

const OPTIONS: WorkloadOptions = {
  mixes: parseMixes('unique'),
  pictures: 0,
  promptWords: 12,
  outputTokens: 5,
  seed: 1,
};
const asks = (changes: Partial<WorkloadOptions>, count = 200) =>
  Array.from({ length: count }, (_, index) => askOf(index, { ...OPTIONS, ...changes }));

describe('parseMixes', () => {
  it.each([
    ['unique', [['unique', 1]]],
    [
      'unique:3,shared-image:0.5',
      [
        ['unique', 3],
        ['shared-image', 0.5],
      ],
    ],
  ])('%s', (text, mixes) => expect([...parseMixes(text)]).toEqual(mixes));

  it.each([
    ['shared', /'shared' is no mix; there are unique, shared-prefix, shared-image/],
    ['unique:0', /'unique:0': a weight must be above 0/],
    ['unique:x', /a weight must be above 0/],
  ])('refuses %s', (text, message) => expect(() => parseMixes(text)).toThrow(message));
});

describe('askOf', () => {
  it('unique requests have nothing in common', () => {
    const all = asks({ pictures: 1 });
    expect(new Set(all.map(({ question }) => question)).size).toBe(200);
    expect(new Set(all.map(({ picture }) => JSON.stringify(picture))).size).toBe(200);
    expect(all.every(({ system }) => system === undefined)).toBe(true);
  });

  it('shared-prefix requests begin with one of four texts and end differently', () => {
    const all = asks({ mixes: parseMixes('shared-prefix') });
    expect(new Set(all.map(({ system }) => system)).size).toBe(4);
    expect(all[0]?.system?.split(' ')).toHaveLength(12);
    expect(new Set(all.map(({ question }) => question)).size).toBe(200);
  });

  it('shared-image requests ask about one of four pictures', () => {
    const all = asks({ mixes: parseMixes('shared-image') });
    expect(new Set(all.map(({ picture }) => JSON.stringify(picture))).size).toBe(4);
    expect(all.every(({ picture }) => picture !== undefined && 'example' in picture)).toBe(true);
  });

  it('keeps to weights and shares', () => {
    const all = asks({ mixes: parseMixes('unique:3,shared-prefix:1'), pictures: 0.25 }, 4000);
    const share = (holds: (ask: (typeof all)[number]) => boolean) => all.filter(holds).length / all.length;
    expect(share(({ system }) => system !== undefined)).toBeCloseTo(0.25, 1);
    expect(share(({ picture }) => picture !== undefined)).toBeCloseTo(0.25, 1);
  });

  it('is the same for the same seed and another for another', () => {
    expect(asks({})).toEqual(asks({}));
    const questions = new Set(asks({}).map(({ question }) => question.replace(/^\d+/, '')));
    // Not even shifted: a run with another seed must find nothing of the first in a cache.
    expect(asks({ seed: 2 }).some(({ question }) => questions.has(question.replace(/^\d+/, '')))).toBe(false);
  });
});

describe('Workload', () => {
  const digest = ({ messages }: GenerateRequest) => {
    const part = messages[0]?.parts[0]?.part;
    const source = part?.$case === 'image' ? part.value.source : undefined;
    return source?.$case === 'data' ? createHash('sha256').update(source.value).digest('hex') : undefined;
  };

  it('draws a picture of its own for each request, the same in every run', async () => {
    const make = async (index: number) => await new Workload({ ...OPTIONS, pictures: 1 }).request(index);
    const [first, again, other] = (await Promise.all([make(0), make(0), make(1)])).map(digest);
    expect(first).toMatch(/^[0-9a-f]{64}$/);
    expect(again).toBe(first);
    expect(other).not.toBe(first);
  });

  it('asks for answers of exactly the length given', async () => {
    const { sampling } = await new Workload(OPTIONS).request(0);
    expect(sampling).toMatchObject({ maxTokens: 5, ignoreEos: true, temperature: 0 });
  });
});
