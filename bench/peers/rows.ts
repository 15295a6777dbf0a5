// Figures of ours beside those of others, and the table that shows them.

/** A figure of ours and of each peer; null where there is none. */
export interface PeerRow {
  readonly metric: string;
  readonly shape: string;
  readonly unit: string;
  readonly ours: number | null;
  readonly peers: Readonly<Record<string, number | null>>;
  /** What the machine, or what stands behind the router, would allow; in the same unit. */
  readonly limit: number | null;
  /** Above 1 = ours is better, whether more or less is better. */
  readonly ratioToBestPeer: number | null;
  /** The same of each one's best pass instead of medians, which a machine with others at work disturbs less. */
  readonly ratioAtBest: number | null;
  /** 1 = at the limit. */
  readonly shareOfLimit: number | null;
}

export type Figures = Pick<PeerRow, 'metric' | 'shape' | 'unit' | 'ours' | 'peers'> & {
  readonly better: 'more' | 'less';
  /** Figures of the best passes. */
  readonly atBest?: Pick<PeerRow, 'ours' | 'peers'>;
  readonly limit?: number | null;
};

export function peerRow({ better, limit = null, atBest, ...figures }: Figures): PeerRow {
  const quotient = (a: number | null, b: number | null) => {
    const [over, under] = better === 'more' ? [a, b] : [b, a];
    return over === null || under === null || under === 0 ? null : over / under;
  };
  const toBestPeer = ({ ours, peers }: Pick<PeerRow, 'ours' | 'peers'>) => {
    const known = Object.values(peers).filter((value) => value !== null);
    if (known.length === 0) return null;
    return quotient(ours, better === 'more' ? Math.max(...known) : Math.min(...known));
  };
  return {
    ...figures,
    limit,
    ratioToBestPeer: toBestPeer(figures),
    ratioAtBest: atBest === undefined ? null : toBestPeer(atBest),
    shareOfLimit: quotient(figures.ours, limit),
  };
}

export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('no values have no median');
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

function number(value: number | null): string {
  if (value === null) return '-';
  return Math.abs(value) >= 100
    ? value.toFixed(0)
    : Math.abs(value) >= 10
      ? value.toFixed(1)
      : value.toFixed(2);
}

/** A row as progress tells it. */
export function rowLine({ metric, shape, unit, ours, peers }: PeerRow): string {
  const others = Object.entries(peers).map(([name, value]) => `${name} ${number(value)}`);
  return `  ${metric}, ${shape}: ${[`ours ${number(ours)}`, ...others].join(', ')} ${unit}`;
}

/** A Markdown table, ratios first. */
export function peerTable(rows: readonly PeerRow[]): string {
  const lines = rows.map(
    ({ metric, shape, unit, ours, peers, limit, ratioToBestPeer, ratioAtBest, shareOfLimit }) => {
      const times = (ratio: number | null) => (ratio === null ? '-' : `${ratio.toFixed(2)}x`);
      const share = shareOfLimit === null ? '' : `${(100 * shareOfLimit).toFixed(0)} % of ${number(limit)}`;
      const others = Object.entries(peers).map(([name, value]) => `${name} ${number(value)}`);
      return `| ${times(ratioToBestPeer)} | ${times(ratioAtBest)} | ${metric} | ${shape} | ${number(ours)} ${unit} | ${others.join(', ')} | ${share} |`;
    },
  );
  return [
    '| ours to the best peer | at best | what | shape | ours | peers | share of the limit |',
    '| --- | --- | --- | --- | --- | --- | --- |',
    ...lines,
  ].join('\n');
}
