import { describe, expect, it } from 'vitest';
import { Affinity } from './affinity.ts';
import { RecentMap } from './recent.ts';

describe('RecentMap', () => {
  it('forgets the least recently used entry', () => {
    const map = new RecentMap<string, number>(2);
    map.set('a', 1);
    map.set('b', 2);
    expect(map.get('a')).toBe(1);
    map.set('c', 3);
    expect([map.has('a'), map.has('b'), map.has('c'), map.size]).toEqual([true, false, true, 2]);
    map.set('a', 9);
    map.delete('c');
    expect([map.get('a'), map.size]).toEqual([9, 1]);
    map.clear();
    expect(map.size).toBe(0);
  });
});

describe('Affinity', () => {
  it.each([
    ['the replica that served the key', 'k', 's', 'r1', 500, 300],
    ['never more than the prompt', 'k', 's', 'r1', 100, 100],
    ['another replica', 'k', 's', 'r2', 500, 0],
    ['another salt', 'k', 'other', 'r1', 500, 0],
    ['no key', '', 's', 'r1', 500, 0],
  ])('believes in %s', (_, key, salt, replica, promptTokens, expected) => {
    const affinity = new Affinity();
    affinity.served('k', 's', 'r1', 300);
    affinity.served('', 's', 'r1', 300);
    expect(affinity.hitTokens(key, salt, replica, promptTokens)).toBe(expected);
  });
});
