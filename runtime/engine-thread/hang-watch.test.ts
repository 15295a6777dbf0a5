import { describe, expect, it } from 'vitest';
import { HangWatch } from './hang-watch.ts';

describe('HangWatch', () => {
  it('counts only while busy and without progress', () => {
    const watch = new HangWatch(1000);
    expect(watch.observe(1, true, 0)).toBe(0);
    expect(watch.observe(1, true, 500)).toBe(500);
    expect(watch.observe(1, true, 900)).toBe(900);
    expect(watch.observe(2, true, 1000)).toBe(0);
    expect(watch.observe(2, false, 1900)).toBe(0);
    expect(watch.observe(2, true, 2000)).toBe(100);
    expect(watch.stalledMs).toBe(100);
  });

  it('counts a gap in the watching itself as one interval', () => {
    const watch = new HangWatch(1000);
    watch.observe(1, true, 0);
    expect(watch.observe(1, true, 60_000)).toBe(1000);
    expect(watch.observe(2, true, 60_500)).toBe(0);
  });
});
