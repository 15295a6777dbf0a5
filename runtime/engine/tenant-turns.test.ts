import { describe, expect, it } from 'vitest';

import { TenantTurns } from './tenant-turns.ts';

const PATIENCE = 100;

function turnsOf(...names: string[]): TenantTurns {
  const turns = new TenantTurns(PATIENCE);
  for (const name of names) turns.wait(name);
  return turns;
}

/** The name whose turn comes first of two that wait since then; '' = neither's. */
function first(turns: TenantTurns, a: string, b: string, now = 0, since: [number, number] = [0, 0]): string {
  const [aTurn, bTurn] = [
    { tenant: a, waitingSince: since[0] },
    { tenant: b, waitingSince: since[1] },
  ];
  const order = turns.compare(aTurn, bTurn, now);
  expect(Math.sign(turns.compare(bTurn, aTurn, now))).toBe(-Math.sign(order) + 0);
  if (order === 0) return '';
  return order < 0 ? a : b;
}

describe('the next turn', () => {
  it('is that of the tenant who was served least', () => {
    const turns = turnsOf('a', 'a', 'b', 'b');
    expect(first(turns, 'a', 'b')).toBe('');
    turns.start('a', 10, 0);
    expect(first(turns, 'a', 'b')).toBe('b');
    turns.start('b', 8, 0);
    expect(first(turns, 'a', 'b')).toBe('b');
    turns.serve('b', 5);
    expect(first(turns, 'a', 'b')).toBe('a');
  });

  it('is no sooner for a rest: who comes back is level with those who wait', () => {
    const turns = turnsOf('a', 'a', 'b', 'c', 'c');
    turns.start('b', 5, 0);
    turns.leave('b', 'running');
    turns.start('a', 1000, 0);
    turns.start('c', 2000, 0);
    turns.wait('b');
    expect(first(turns, 'a', 'b')).toBe('');
    expect(first(turns, 'b', 'c')).toBe('b');
  });

  it('is no sooner either for one that runs a little, but never waits', () => {
    const turns = turnsOf('a', 'a', 'small');
    turns.start('small', 1, 0);
    turns.start('a', 1000, 0);
    turns.wait('new');
    turns.wait('small');
    expect([first(turns, 'a', 'new'), first(turns, 'a', 'small')]).toEqual(['', '']);
  });

  it('is level with the last that started when nobody waits', () => {
    const turns = turnsOf('a');
    turns.start('a', 1000, 0);
    turns.wait('b');
    turns.wait('a');
    expect(first(turns, 'a', 'b')).toBe('');
    for (const name of ['a', 'b']) turns.leave(name, 'waiting');
    turns.leave('a', 'running');
    expect(turns.size).toBe(0);
    turns.wait('c');
    turns.wait('a');
    expect(first(turns, 'a', 'c')).toBe('');
  });

  it('is not lost by debts: one that was served much keeps its count while it is there', () => {
    const turns = turnsOf('a', 'b');
    turns.start('a', 1000, 0);
    turns.start('b', 10, 0);
    turns.wait('b');
    turns.wait('a');
    expect(first(turns, 'a', 'b')).toBe('b');
  });

  it('comes to one that has had none for as long as the patience lasts, the longest wait first', () => {
    const turns = turnsOf('a', 'a', 'b');
    turns.start('a', 1000, 50);
    expect(first(turns, 'a', 'b', 149, [0, 50])).toBe('b');
    expect(first(turns, 'a', 'b', 150, [0, 51])).toBe('a'); // a has waited 100, since it last had a turn
    expect(first(turns, 'a', 'b', 160, [0, 40])).toBe('b');
  });

  it('counts a start that was taken back as served', () => {
    const turns = turnsOf('a', 'b');
    turns.start('a', 10, 0);
    turns.putBack('a');
    expect(first(turns, 'a', 'b')).toBe('b');
    turns.leave('a', 'waiting');
    expect(turns.size).toBe(1);
  });

  it('is nobody’s who is not there', () => {
    expect(() => turnsOf('a').serve('b', 1)).toThrow(/nothing there/);
  });
});
