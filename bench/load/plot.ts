// Throughput against latency as an SVG. By hand: two panels of lines need no plotting library, which would bring more code than the client has.
import type { Percentiles } from './distribution.ts';
import { nameOf, type LoadResult } from './report.ts';

const PANEL = { width: 400, height: 300, left: 60, top: 40, gap: 90, bottom: 50 };
const LINES = [
  { percentile: 'p50', colour: '#1f77b4' },
  { percentile: 'p90', colour: '#ff7f0e' },
  { percentile: 'p99', colour: '#d62728' },
] as const;

interface Panel {
  readonly title: string;
  readonly of: (result: LoadResult) => Percentiles | null;
}

const PANELS: readonly Panel[] = [
  { title: 'first token, ms', of: ({ ttft }) => ttft },
  { title: 'between pieces, ms', of: ({ itl }) => itl },
];

/** One point a load, joined in the order in which the loads were run; latency on a logarithmic axis. */
export function plot(results: readonly LoadResult[], title: string): string {
  const width = PANEL.left + PANELS.length * (PANEL.width + PANEL.gap);
  const height = PANEL.top + PANEL.height + PANEL.bottom;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="12">
<rect width="${width}" height="${height}" fill="white"/>
<text x="${PANEL.left}" y="18" font-size="14">${escape(title)}</text>
${PANELS.map((panel, index) => `<g transform="translate(${PANEL.left + index * (PANEL.width + PANEL.gap)},${PANEL.top})">\n${drawPanel(panel, results)}\n</g>`).join('\n')}
</svg>
`;
}

function drawPanel({ title, of }: Panel, results: readonly LoadResult[]): string {
  const { width, height } = PANEL;
  const points = results.flatMap((result) => {
    const percentiles = of(result);
    return percentiles === null ? [] : [{ at: result.tokensPerSecond, percentiles, load: result.load }];
  });
  const highest = Math.max(1e-3, ...points.map(({ percentiles }) => percentiles.p99));
  const lowest = Math.max(1e-3, Math.min(highest, ...points.map(({ percentiles }) => percentiles.p50)));
  const decades = [Math.floor(Math.log10(lowest)), Math.ceil(Math.log10(highest) + 1e-9)] as const;
  const widest = niceCeil(Math.max(1, ...points.map(({ at }) => at)));
  const x = (value: number) => ((value / widest) * width).toFixed(1);
  const y = (value: number) =>
    (
      height -
      ((Math.log10(Math.max(value, 1e-3)) - decades[0]) / Math.max(1, decades[1] - decades[0])) * height
    ).toFixed(1);
  const out = [`<rect width="${width}" height="${height}" fill="none" stroke="#888"/>`];
  out.push(
    `<text x="${width / 2}" y="${height + 38}" text-anchor="middle">tokens/s</text><text y="-6">${title}</text>`,
  );
  for (let tick = 0; tick <= 4; tick++) {
    const value = (widest * tick) / 4;
    out.push(`<text x="${x(value)}" y="${height + 18}" text-anchor="middle">${value}</text>`);
  }
  for (let decade = decades[0]; decade <= decades[1]; decade++) {
    const at = y(10 ** decade);
    out.push(`<path d="M0 ${at}H${width}" stroke="#ddd"/>`);
    out.push(
      `<text x="-6" y="${at}" text-anchor="end" dominant-baseline="middle">${Number((10 ** decade).toPrecision(1))}</text>`,
    );
  }
  LINES.forEach(({ percentile, colour }, index) => {
    const line = points.map(({ at, percentiles }) => `${x(at)},${y(percentiles[percentile])}`).join(' ');
    out.push(`<polyline points="${line}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    out.push(`<text x="${width + 8}" y="${16 + index * 16}" fill="${colour}">${percentile}</text>`);
    for (const { at, percentiles, load } of points)
      out.push(
        `<circle cx="${x(at)}" cy="${y(percentiles[percentile])}" r="3" fill="${colour}"><title>${escape(nameOf(load))}: ${percentiles[percentile].toFixed(1)} ms</title></circle>`,
      );
  });
  return out.join('\n');
}

/** The next of 1, 2, 4, 5, 10, 20, ... */
function niceCeil(value: number): number {
  const decade = 10 ** Math.floor(Math.log10(value));
  return decade * ([1, 2, 4, 5, 10].find((step) => step * decade >= value) ?? 10);
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
