// How many submissions each session may send. Pure.

/** Submissions beyond maxSequences that the replica takes, so that the next one is there when a sequence ends. */
export const QUEUE_LENGTH = 4;

export interface CreditState {
  /** Running plus queued sequences that the replica wants to hold. */
  readonly capacity: number;
  /** Submissions held now, of all sessions. */
  readonly held: number;
  readonly sessions: number;
}

/**
 * Credits of each session. What is free is shared evenly; while anything is free each session has at least one, so that none starves.
 * Sessions may so send up to `capacity` more than fits when all use grants of different moments at once: see hardLimit.
 */
export function creditsPerSession({ capacity, held, sessions }: CreditState): number {
  const free = capacity - held;
  if (free <= 0 || sessions === 0) return 0;
  return Math.max(1, Math.floor(free / sessions));
}

/** Submissions held at which further ones are refused, whatever credits a session believes it has. */
export function hardLimit(capacity: number): number {
  return 2 * capacity;
}
