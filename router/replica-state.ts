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
  /** Whoever lists the replicas wants it empty. Outlives sessions. */
  readonly cordoned: boolean;
  /** The replica itself said in this session that it drains. */
  readonly drains: boolean;
}

export type ReplicaEvent =
  | { readonly type: 'welcomed' }
  | { readonly type: 'incompatible'; readonly message: string }
  | { readonly type: 'probe passed' }
  | { readonly type: 'probe failed'; readonly message: string }
  | { readonly type: 'drain started' }
  | { readonly type: 'drain undone' }
  | { readonly type: 'cordoned' }
  | { readonly type: 'uncordoned' }
  | { readonly type: 'ejected'; readonly message: string }
  | { readonly type: 'lost'; readonly message: string };

export const NEVER_CONNECTED: ReplicaState = {
  phase: 'connecting',
  message: 'not connected yet',
  probed: false,
  incompatible: false,
  cordoned: false,
  drains: false,
};

const PROBE_UNDER_WAY = 'waiting for a first generation to pass through all its ranks';
const DRAINING = { phase: 'draining', message: 'draining: it takes no new requests' } as const;
const PROBING = { phase: 'probing', message: PROBE_UNDER_WAY, probed: false } as const;

/** The state after an event; an event that does not fit the state leaves it as it is. */
export function transition(state: ReplicaState, event: ReplicaEvent): ReplicaState {
  const { cordoned } = state;
  switch (event.type) {
    case 'lost':
      return { ...NEVER_CONNECTED, message: event.message, cordoned };
    case 'welcomed':
      return { ...NEVER_CONNECTED, ...(cordoned ? DRAINING : PROBING), cordoned };
    case 'incompatible':
      return { ...state, phase: 'ejected', message: event.message, incompatible: true };
    case 'cordoned':
      return { ...state, cordoned: true, ...(answers(state) ? DRAINING : {}) };
    case 'uncordoned':
      if (!cordoned) return state;
      // What was proved before may no longer hold: it takes part again after another probe.
      return {
        ...state,
        cordoned: false,
        probed: false,
        ...(answers(state) && !state.drains ? PROBING : {}),
      };
    case 'probe passed':
    case 'probe failed':
    case 'drain started':
    case 'drain undone':
    case 'ejected':
      return answers(state) ? { ...state, ...changes(state, event) } : state;
    default:
      return event satisfies never;
  }
}

/** Without a session, or with another model, nothing but a new session counts. */
function answers({ phase, incompatible }: ReplicaState): boolean {
  return phase !== 'connecting' && !incompatible;
}

/** What an event changes while the session stands. */
function changes(
  { phase, probed, cordoned }: ReplicaState,
  event: Extract<
    ReplicaEvent,
    { type: 'probe passed' | 'probe failed' | 'drain started' | 'drain undone' | 'ejected' }
  >,
): Partial<ReplicaState> {
  const drains = phase === 'draining';
  switch (event.type) {
    case 'probe passed':
      // A drain that began during the probe stands.
      return drains ? { probed: true } : { phase: 'ready', message: '', probed: true };
    case 'probe failed':
      return drains ? {} : { message: event.message };
    case 'drain started':
      return { ...DRAINING, drains: true };
    case 'drain undone':
      if (!drains || cordoned) return { drains: false };
      return { drains: false, ...(probed ? { phase: 'ready', message: '' } : PROBING) };
    case 'ejected':
      return phase === 'ready' ? { phase: 'ejected', message: event.message } : {};
    default:
      return event satisfies never;
  }
}
