import { describe, expect, it } from 'vitest';
import { NEVER_CONNECTED, transition, type ReplicaEvent, type ReplicaPhase } from './replica-state.ts';

const EVENTS = {
  welcomed: { type: 'welcomed' },
  odd: { type: 'incompatible', message: 'other model' },
  passed: { type: 'probe passed' },
  failed: { type: 'probe failed', message: 'rank 1' },
  drain: { type: 'drain started' },
  undo: { type: 'drain undone' },
  cordon: { type: 'cordoned' },
  uncordon: { type: 'uncordoned' },
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
    ['cordon', 'connecting', 'not connected yet'],
    ['cordon welcomed', 'draining', /no new requests/],
    ['cordon welcomed uncordon', 'probing', /first generation/],
    ['cordon uncordon welcomed', 'probing', /first generation/],
    ['welcomed passed cordon', 'draining', /no new requests/],
    ['welcomed passed cordon lost', 'connecting', 'reset'],
    ['welcomed passed cordon lost welcomed', 'draining', /no new requests/],
    ['welcomed passed cordon uncordon', 'probing', /first generation/],
    ['welcomed passed cordon uncordon passed', 'ready', ''],
    ['welcomed cordon passed uncordon', 'probing', /first generation/],
    ['welcomed passed uncordon', 'ready', ''],
    ['welcomed passed cordon drain uncordon', 'draining', /no new requests/],
    ['welcomed passed cordon drain uncordon undo', 'probing', /first generation/],
    ['welcomed passed cordon drain undo', 'draining', /no new requests/],
    ['welcomed passed drain cordon undo uncordon', 'probing', /first generation/],
    ['welcomed passed eject cordon uncordon', 'probing', /first generation/],
    ['welcomed odd cordon', 'ejected', 'other model'],
    ['welcomed odd cordon welcomed', 'draining', /no new requests/],
    ['welcomed odd uncordon', 'ejected', 'other model'],
  ])('%s gives %s', (sequence, phase, message) => {
    const names = sequence.split(' ').filter((name) => name !== '') as (keyof typeof EVENTS)[];
    const state = names.reduce((now, name) => transition(now, EVENTS[name]), NEVER_CONNECTED);
    expect(state.phase).toBe(phase);
    if (typeof message === 'string') expect(state.message).toBe(message);
    else expect(state.message).toMatch(message);
  });
});
