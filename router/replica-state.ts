// What state a replica is in, and why. Only events change it.

/**
 * connecting: no session, or it is lost · probing: welcomed, its first generation has not passed · ready: takes requests ·
 * draining: finishes what it has · ejected: kept out by its breaker or because it serves something else.
 */
export type ReplicaPhase = 'connecting' | 'probing' | 'ready' | 'draining' | 'ejected';

export interface ReplicaState {
  readonly phase: ReplicaPhase;
  /** Why it is not ready, in words; empty when it is. */
  readonly message: string;
  /** A generation has passed through this replica in this session. */
  readonly probed: boolean;
  /** It serves another model or tokenizer than its siblings: never chosen, not even as the last one. */
  readonly incompatible: boolean;
}

export type ReplicaEvent =
  | { readonly type: 'welcomed' }
  | { readonly type: 'incompatible'; readonly message: string }
  | { readonly type: 'probe passed' }
  | { readonly type: 'probe failed'; readonly message: string }
  | { readonly type: 'drain started' }
  | { readonly type: 'drain undone' }
  | { readonly type: 'ejected'; readonly message: string }
  | { readonly type: 'lost'; readonly message: string };

export const NEVER_CONNECTED: ReplicaState = {
  phase: 'connecting',
  message: 'not connected yet',
  probed: false,
  incompatible: false,
};

const PROBE_UNDER_WAY = 'waiting for a first generation to pass through all its ranks';

/** The state after an event; an event that does not fit the state leaves it as it is. */
export function transition(state: ReplicaState, event: ReplicaEvent): ReplicaState {
  if (event.type === 'lost') return { ...NEVER_CONNECTED, message: event.message };
  if (event.type === 'welcomed') {
    return { phase: 'probing', message: PROBE_UNDER_WAY, probed: false, incompatible: false };
  }
  if (event.type === 'incompatible') {
    return { ...state, phase: 'ejected', message: event.message, incompatible: true };
  }
  // Without a session, or with another model, nothing but a new session counts.
  return state.phase === 'connecting' || state.incompatible ? state : { ...state, ...changes(state, event) };
}

/** What an event changes while the session stands. */
function changes(
  { phase, probed }: ReplicaState,
  event: Exclude<ReplicaEvent, { type: 'lost' | 'welcomed' | 'incompatible' }>,
): Partial<ReplicaState> {
  const drains = phase === 'draining';
  switch (event.type) {
    case 'probe passed':
      // A drain that began during the probe stands.
      return drains ? { probed: true } : { phase: 'ready', message: '', probed: true };
    case 'probe failed':
      return drains ? {} : { message: event.message };
    case 'drain started':
      return { phase: 'draining', message: 'draining: it takes no new requests' };
    case 'drain undone':
      if (!drains) return {};
      return probed ? { phase: 'ready', message: '' } : { phase: 'probing', message: PROBE_UNDER_WAY };
    case 'ejected':
      return phase === 'ready' ? { phase: 'ejected', message: event.message } : {};
    default:
      return event satisfies never;
  }
}
