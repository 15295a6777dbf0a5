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

/** A Markdown table of the rows. */
export function table(rows: readonly Row[]): string {
  const lines = rows.map(({ metric, shape, unit, value, limit, limitOf, least }) => {
    const share = limit === undefined ? 0 : least === true ? limit / value : value / limit;
    const told = limit === undefined ? '' : `${(100 * share).toFixed(0)} % of ${limitOf} (${number(limit)})`;
    return `| ${metric} | ${shape} | ${number(value)} ${unit} | ${told} |`;
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
  const body = `\`${command}\` on ${machine.cpu}, ${machine.cores} cores, ${machine.isa}, read bandwidth ${(machine.readBandwidth / 1e9).toFixed(1)} GB/s (all cores scanning memory),
Node ${machine.node}.

${table(rows)}`;
  return { title, body };
}
