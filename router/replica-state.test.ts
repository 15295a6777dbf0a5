import { describe, expect, it } from 'vitest';
import { NEVER_CONNECTED, transition, type ReplicaEvent, type ReplicaPhase } from './replica-state.ts';

const EVENTS = {
  welcomed: { type: 'welcomed' },
  odd: { type: 'incompatible', message: 'other model' },
  passed: { type: 'probe passed' },
  failed: { type: 'probe failed', message: 'rank 1' },
  drain: { type: 'drain started' },
  undo: { type: 'drain undone' },
  eject: { type: 'ejected', message: 'broken' },
  lost: { type: 'lost', message: 'reset' },
} as const satisfies Record<string, ReplicaEvent>;

describe('transition', () => {
  it.each<[string, ReplicaPhase, string | RegExp]>([
    ['', 'connecting', 'not connected yet'],
    ['welcomed', 'probing', /first generation/],
    ['welcomed failed', 'probing', 'rank 1'],
    ['welcomed passed', 'ready', ''],
    ['welcomed failed passed', 'ready', ''],
    ['welcomed passed drain', 'draining', /no new requests/],
    ['welcomed passed drain undo', 'ready', ''],
    ['welcomed drain undo', 'probing', /first generation/],
    ['welcomed drain passed', 'draining', /no new requests/],
    ['welcomed drain passed undo', 'ready', ''],
    ['welcomed drain failed', 'draining', /no new requests/],
    ['welcomed passed undo', 'ready', ''],
    ['welcomed passed eject', 'ejected', 'broken'],
    ['welcomed passed eject passed', 'ready', ''],
    ['welcomed passed eject drain undo', 'ready', ''],
    ['welcomed eject', 'probing', /first generation/],
    ['welcomed odd', 'ejected', 'other model'],
    ['welcomed odd passed', 'ejected', 'other model'],
    ['welcomed odd drain', 'ejected', 'other model'],
    ['welcomed odd welcomed', 'probing', /first generation/],
    ['welcomed passed lost', 'connecting', 'reset'],
    ['welcomed odd lost', 'connecting', 'reset'],
    ['welcomed passed lost passed', 'connecting', 'reset'],
    ['welcomed passed lost welcomed', 'probing', /first generation/],
    ['passed', 'connecting', 'not connected yet'],
    ['drain', 'connecting', 'not connected yet'],
  ])('%s gives %s', (sequence, phase, message) => {
    const names = sequence.split(' ').filter((name) => name !== '') as (keyof typeof EVENTS)[];
    const state = names.reduce((now, name) => transition(now, EVENTS[name]), NEVER_CONNECTED);
    expect(state.phase).toBe(phase);
    if (typeof message === 'string') expect(state.message).toBe(message);
    else expect(state.message).toMatch(message);
  });
});
