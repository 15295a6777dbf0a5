// The series that dashboards and alerts of the chart name, found in their PromQL.

import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';

export const CHART = fileURLToPath(new URL('../../helm/internvl-operator/', import.meta.url));

export interface NamedQuery {
  /** Where it stands, for messages. */
  readonly place: string;
  readonly expr: string;
}

export interface AlertRule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

/** Every alert rule, in the file's order. */
export async function alertRules(): Promise<readonly AlertRule[]> {
  const text = await readFile(`${CHART}files/alerts.yaml`, 'utf8');
  const { groups } = parse(text) as { groups: readonly { rules: readonly AlertRule[] }[] };
  return groups.flatMap(({ rules }) => rules);
}

/** Every query of the dashboards, those of their variables included. */
export async function dashboardQueries(): Promise<readonly NamedQuery[]> {
  const folder = `${CHART}files/dashboards/`;
  const queries: NamedQuery[] = [];
  for (const file of await readdir(folder)) {
    const { panels, templating } = JSON.parse(await readFile(folder + file, 'utf8')) as {
      panels: readonly { title: string; targets?: readonly { expr: string }[] }[];
      templating: { list: readonly { name: string; query: string | { query: string } }[] };
    };
    for (const { title, targets = [] } of panels)
      for (const { expr } of targets) queries.push({ place: `${file}: ${title}`, expr });
    for (const { name, query } of templating.list)
      if (typeof query !== 'string')
        queries.push({
          place: `${file}: $${name}`,
          expr: query.query.replace(/^label_values\((.*), *\w+\)$/, '$1'),
        });
  }
  return queries;
}

const NOT_SERIES = new Set(
  'sum max min avg count rate increase histogram_quantile label_replace and or unless on ignoring group_left group_right by without bool offset'.split(
    ' ',
  ),
);

/** Names of series in a query: the words outside of label lists, strings and durations that are no function or keyword. */
export function seriesOf(expr: string): string[] {
  const bare = expr
    .replaceAll(/"(?:[^"\\]|\\.)*"/g, '')
    .replaceAll(/\{[^}]*\}/g, '')
    .replaceAll(/\[[^\]]*\]/g, '')
    .replaceAll(/\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/g, '');
  const words = bare.match(/[a-zA-Z_:][\w:]*/g) ?? [];
  return [...new Set(words.filter((word) => !NOT_SERIES.has(word)))];
}
