import { describe, expect, it } from 'vitest';
import type { ReplicaProgress } from '../local/deployment.ts';
import type { ProcessPhase, ProcessProgress } from '../local/progress.ts';
import { describeReplica, lineDisplay } from './progress-display.ts';

const rank = (phase: ProcessPhase, loadedBytes = 0, totalBytes = 0): ProcessProgress => ({
  phase,
  loadedBytes,
  totalBytes,
});
const replica = (ranks: ProcessProgress[], more: Partial<ReplicaProgress> = {}): ReplicaProgress => ({
  name: 'r',
  ranks,
  ready: false,
  down: false,
  ...more,
});

describe('describeReplica', () => {
  it.each([
    [replica([rank('starting'), rank('starting')]), 'starting'],
    [replica([rank('loading', 1, 4), rank('loading', 2, 4)]), 'loading 37 %'],
    [replica([rank('loaded', 4, 4), rank('loading', 4, 4)]), 'loading 99 %'],
    [replica([rank('loaded', 4, 4), rank('serving', 4, 4)]), 'warming up'],
    [replica([rank('serving'), rank('serving')]), 'waiting for its first answer'],
    [replica([rank('serving'), rank('serving')], { ready: true }), 'ready'],
    [replica([rank('down'), rank('down')], { down: true }), 'down'],
  ])('%# %s', (progress, text) => expect(describeReplica(progress)).toBe(text));
});

describe('lineDisplay', () => {
  it('prints each step once', () => {
    const lines: string[] = [];
    const display = lineDisplay((line) => lines.push(line));
    for (let loaded = 0; loaded <= 100; loaded++) display.update([replica([rank('loading', loaded, 100)])]);
    display.update([replica([rank('serving', 100, 100)], { ready: true })]);
    display.update([replica([rank('serving', 100, 100)], { ready: true })]);
    expect(lines).toEqual([
      'r: loading 0 %',
      'r: loading 25 %',
      'r: loading 50 %',
      'r: loading 75 %',
      'r: ready',
    ]);
  });
});
