import { describe, expect, it } from 'vitest';
import { creditsPerSession } from './credits.ts';

describe('creditsPerSession', () => {
  it.each([
    [{ capacity: 68, held: 0, sessions: 1 }, 68],
    [{ capacity: 68, held: 0, sessions: 2 }, 34],
    [{ capacity: 68, held: 60, sessions: 3 }, 2],
    [{ capacity: 68, held: 67, sessions: 3 }, 1],
    [{ capacity: 68, held: 68, sessions: 1 }, 0],
    [{ capacity: 68, held: 70, sessions: 1 }, 0],
    [{ capacity: 68, held: 0, sessions: 0 }, 0],
  ])('of %j is %i', (state, credits) => {
    expect(creditsPerSession(state)).toBe(credits);
  });
});
