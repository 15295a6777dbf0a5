import { describe, expect, it } from 'vitest';
import { baseName, rankName, ranksServiceName, routerName } from './names.ts';

describe('names', () => {
  it.each(['a', 'demo', 'a'.repeat(47), 'a'.repeat(48), 'a'.repeat(253), 'x.y.z', `${'a.'.repeat(100)}b`])(
    'are DNS labels for %s',
    (deployment) => {
      const longest = rankName(deployment, 'deadbeef', 9999, 7);
      for (const name of [longest, ranksServiceName(deployment), routerName(deployment)]) {
        expect(name).toMatch(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/);
        expect(name.length).toBeLessThanOrEqual(63);
      }
    },
  );

  it('keep apart deployments that differ late or in a dot', () => {
    expect(baseName(`${'a'.repeat(60)}b`)).not.toBe(baseName(`${'a'.repeat(60)}c`));
    expect(baseName('a.b')).not.toBe(baseName('a-b'));
  });

  it('are the plain name where it fits', () => {
    expect(rankName('demo', 'deadbeef', 0, 1)).toBe('demo-deadbeef-0-1');
  });
});
