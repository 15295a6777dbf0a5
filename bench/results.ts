// What a bench prints: a table on the terminal, the same table in bench/RESULTS.md, and rows as JSON.

import type { PageSection } from './page-sections.ts';

/** One measured figure; `limit` is what the machine would allow, in the same unit; of a time that is the least it can take when `least` is set. */
export interface Row {
  readonly metric: string;
  readonly shape: string;
  readonly unit: string;
  readonly value: number;
  readonly limit?: number;
  readonly limitOf?: string;
  readonly least?: true;
}

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly isa: string;
  readonly readBandwidth: number;
  readonly node: string;
}

function number(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** How close a figure is to its limit; empty where it has none. */
function shareOfLimit({ value, limit, limitOf, least }: Row): string {
  if (limit === undefined) return '';
  const share = least === true ? limit / value : value / limit;
  return `${(100 * share).toFixed(0)} % of ${limitOf} (${number(limit)})`;
}

/** A row as a line of text. */
export function describe(row: Row): string {
  const share = shareOfLimit(row);
  const { metric, shape, unit, value } = row;
  return `${metric}, ${shape}: ${number(value)} ${unit}${share === '' ? '' : `, ${share}`}`;
}

/** A Markdown table of the rows. */
export function table(rows: readonly Row[]): string {
  const lines = rows.map((row) => {
    const { metric, shape, unit, value } = row;
    return `| ${metric} | ${shape} | ${number(value)} ${unit} | ${shareOfLimit(row)} |`;
  });
  return ['| what | shape | measured | share of the limit |', '| --- | --- | --- | --- |', ...lines].join(
    '\n',
  );
}

/** Above the sections of bench/RESULTS.md. */
export const HEAD = `# Results

Medians. Random weights: speed depends on shapes, not on values. What the machine would allow is measured in the same run.`;

/** A section of bench/RESULTS.md: one half of one run. */
export function section(title: string, machine: Machine, rows: readonly Row[], command: string): PageSection {
  const body = `\`${command}\` on ${machine.cpu}, ${machine.cores} cores, ${machine.isa}, read bandwidth ${(machine.readBandwidth / 1e9).toFixed(1)} GB/s at the start
(all cores, the best of some ways to read; the limits of decoding are measured beside each row),
Node ${machine.node}.

${table(rows)}`;
  return { title, body };
}
