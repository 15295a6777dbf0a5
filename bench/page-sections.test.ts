import { describe, expect, it } from 'vitest';
import { engineTitle, mergeSections, ROUTER_TITLE } from './page-sections.ts';

const section = (title: string, body: string) => ({ title, body });
const [best, avx2, router] = [engineTitle('amx'), engineTitle('avx2'), ROUTER_TITLE];

describe('mergeSections', () => {
  it('makes a page of nothing', () =>
    expect(mergeSections('', '# Page\n\nHead.\n', [section(best, '| a |\n')])).toBe(
      `# Page\n\nHead.\n\n## ${best}\n\n| a |\n`,
    ));

  it('replaces what was measured and leaves the rest, the head being new', () => {
    const before = mergeSections('', '# Old', [
      section(best, 'one'),
      section(router, 'r\n\n### Inside\n\nr'),
    ]);
    const after = mergeSections(before, '# New', [section(best, 'two')]);
    expect(after).toBe(`# New\n\n## ${best}\n\ntwo\n\n## ${router}\n\nr\n\n### Inside\n\nr\n`);
  });

  it.each([[[best, avx2, router]], [[router, avx2, best]], [[avx2, router, best]]])(
    'of runs in any order (%j) makes one page',
    (titles) => {
      const page = titles.reduce((page, title) => mergeSections(page, '# Page', [section(title, title)]), '');
      expect([...page.matchAll(/^## (.*)$/gm)].map(([, title]) => title)).toEqual([best, avx2, router]);
    },
  );

  it('is the same twice, and keeps titles that it does not know at the end', () => {
    const once = mergeSections('# Page\n\n## Notes\n\nn\n', '# Page', [section(avx2, 'x')]);
    expect(mergeSections(once, '# Page', [section(avx2, 'x')])).toBe(once);
    expect(once).toBe(`# Page\n\n## ${avx2}\n\nx\n\n## Notes\n\nn\n`);
  });
});
