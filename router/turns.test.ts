import { describe, expect, it } from 'vitest';
import { Turns } from './turns.ts';

/** Turns that come when the test says so. */
function manual(perTurn: number) {
  let next: (() => void) | undefined;
  const log: string[] = [];
  const turns = new Turns(perTurn, (run) => (next = run));
  return {
    turns,
    log,
    work: (name: string, units: number) => {
      let left = units;
      return (count: number): number => {
        const done = Math.min(count, left);
        left -= done;
        if (done > 0) log.push(`${name} ${done}`);
        return done;
      };
    },
    turn: (): boolean => {
      const run = next;
      next = undefined;
      run?.();
      return run !== undefined;
    },
  };
}

describe('Turns', () => {
  it('does little work at once', () => {
    const { turns, log, work, turn } = manual(10);
    turns.begin(work('a', 3));
    expect(log).toEqual(['a 3']);
    expect(turn()).toBe(true);
    expect(turn()).toBe(false);
    expect(log).toEqual(['a 3']);
  });

  it('spreads much work over turns, and plans none after the last', () => {
    const { turns, log, work, turn } = manual(10);
    turns.begin(work('a', 25));
    expect(log).toEqual(['a 10']);
    turn();
    turn();
    expect(log).toEqual(['a 10', 'a 10', 'a 5']);
    while (turn());
    expect(log).toHaveLength(3);
  });

  it('lets no turn do more, however much begins in it, and shares it', () => {
    const { turns, log, work, turn } = manual(10);
    turns.begin(work('a', 20));
    turns.begin(work('b', 20));
    expect(log).toEqual(['a 10']);
    turn();
    expect(log.slice(1)).toEqual(['a 5', 'b 5']);
    while (turn());
    expect(log.slice(3)).toEqual(['a 5', 'b 5', 'b 5', 'b 5']);
  });

  it('gives a turn to those behind when there are more than it has units', () => {
    const { turns, log, work, turn } = manual(2);
    for (const name of ['a', 'b', 'c', 'd']) turns.begin(work(name, 3));
    turn();
    turn();
    expect(log).toEqual(['a 2', 'a 1', 'b 1', 'c 1', 'd 1']);
  });

  it('does no more of a part that has been ended', () => {
    const { turns, log, work, turn } = manual(10);
    const part = work('a', 25);
    turns.begin(part);
    turns.end(part);
    while (turn());
    expect(log).toEqual(['a 10']);
  });
});
