import { describe, expect, it } from 'vitest';
import { median, peerRow, peerTable, type Figures } from './rows.ts';

const figures = (changes: Partial<Figures>): Figures => ({
  metric: 'm',
  shape: 's',
  unit: 'u',
  better: 'more',
  ours: 50,
  peers: { a: 25, b: 40, c: null },
  limit: 100,
  ...changes,
});

describe('peerRow', () => {
  it.each<[string, Partial<Figures>, number | null, number | null]>([
    ['more is better: against the highest', {}, 1.25, 0.5],
    ['less is better: against the lowest', { better: 'less', limit: 20 }, 0.5, 0.4],
    ['no peer ran', { peers: { a: null } }, null, 0.5],
    ['no limit', { limit: null }, 1.25, null],
    ['none of ours', { ours: null }, null, null],
    ['less is better than nothing at all', { better: 'less', ours: 0 }, null, null],
  ])('%s', (_, changes, ratio, share) => {
    const row = peerRow(figures(changes));
    expect(row.ratioToBestPeer).toEqual(ratio);
    expect(row.shareOfLimit).toEqual(share);
    expect(row.ratioAtBest).toBeNull();
  });

  it.each([
    ['more' as const, 2],
    ['less' as const, 0.25],
  ])('compares best passes with each other, %s being better', (better, ratio) =>
    expect(peerRow(figures({ better, atBest: { ours: 80, peers: { a: 20, b: 40 } } })).ratioAtBest).toBe(
      ratio,
    ),
  );
});

describe('median', () => {
  it.each([
    [[3], 3],
    [[3, 1, 2], 2],
    [[4, 1, 3, 2], 2.5],
  ])('%j', (values, expected) => expect(median(values)).toBe(expected));

  it('refuses to make one up', () => expect(() => median([])).toThrow('no values'));
});

describe('peerTable', () => {
  it('begins rows with the ratio', () =>
    expect(peerTable([peerRow(figures({}))]).split('\n')[2]).toBe(
      '| 1.25x | - | m | s | 50.0 u | a 25.0, b 40.0, c - | 50 % of 100 |',
    ));
});
