// A page of figures is a head and sections. A run replaces the sections that it measured and leaves the others: figures of different instruction
// sets come from different runs.

export interface PageSection {
  readonly title: string;
  /** Markdown without headings of the first two levels. */
  readonly body: string;
}

export const ROUTER_TITLE = 'Router';

/** isa: as `cpuInfo()` names what was in use. */
export function engineTitle(isa: string): string {
  return `Engine, ${isa}`;
}

const ORDER = [...['amx', 'avx512_bf16', 'avx512', 'avx2', 'scalar'].map(engineTitle), ROUTER_TITLE];

/** The page with a new head, and with `measured` in place of its sections of the same titles; sections of titles that are not known come last. */
export function mergeSections(page: string, head: string, measured: readonly PageSection[]): string {
  const titles = new Set(measured.map(({ title }) => title));
  const kept = sectionsOf(page).filter(({ title }) => !titles.has(title));
  const place = (title: string) => (ORDER.includes(title) ? ORDER.indexOf(title) : ORDER.length);
  const sections = [...kept, ...measured].toSorted((a, b) => place(a.title) - place(b.title));
  const parts = [head.trim(), ...sections.map(({ title, body }) => `## ${title}\n\n${body.trim()}`)];
  return `${parts.join('\n\n')}\n`;
}

function sectionsOf(page: string): PageSection[] {
  const [, ...parts] = page.split(/^## /m);
  return parts.map((part) => {
    const [title = '', ...body] = part.split('\n');
    return { title: title.trim(), body: body.join('\n') };
  });
}
