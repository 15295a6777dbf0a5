// What the processes' log lines say about how far a deployment is. Pure.

/** The events that a display follows; every other log line is only logged. */
export type ProcessEvent =
  | { readonly kind: 'loading'; readonly loadedBytes: number; readonly totalBytes: number }
  | { readonly kind: 'loaded' }
  | { readonly kind: 'listening' }
  | { readonly kind: 'serving' }
  | { readonly kind: 'replica-ready'; readonly replica: string }
  | { readonly kind: 'replica-lost'; readonly replica: string; readonly problem: string }
  | { readonly kind: 'fatal'; readonly problem: string };

/** Reads one line of a process's output; undefined when it is no JSON or nothing that is followed. */
export function parseProcessEvent(line: string): ProcessEvent | undefined {
  if (!line.startsWith('{')) return undefined;
  let entry: unknown;
  try {
    entry = JSON.parse(line);
  } catch {
    return undefined; // a line that only looks like JSON is ordinary output
  }
  if (typeof entry !== 'object' || entry === null) return undefined;
  const fields = entry as Readonly<Record<string, unknown>>;
  switch (fields['message']) {
    case 'loading':
      return {
        kind: 'loading',
        loadedBytes: number(fields['loadedBytes']),
        totalBytes: number(fields['totalBytes']),
      };
    case 'loaded':
      return { kind: 'loaded' };
    case 'listening':
      return { kind: 'listening' };
    case 'serving':
      return { kind: 'serving' };
    case 'replica ready':
      return { kind: 'replica-ready', replica: text(fields['replica']) };
    case 'replica lost':
      return { kind: 'replica-lost', replica: text(fields['replica']), problem: text(fields['err']) };
    case 'fatal':
      return { kind: 'fatal', problem: text(fields['err']) };
    default:
      return undefined;
  }
}

export type ProcessPhase = 'starting' | 'loading' | 'loaded' | 'serving' | 'down';

export interface ProcessProgress {
  readonly phase: ProcessPhase;
  readonly loadedBytes: number;
  readonly totalBytes: number;
}

export const STARTING: ProcessProgress = { phase: 'starting', loadedBytes: 0, totalBytes: 0 };

/** The progress of one process after an event. */
export function advance(progress: ProcessProgress, event: ProcessEvent): ProcessProgress {
  switch (event.kind) {
    case 'loading':
      return { phase: 'loading', loadedBytes: event.loadedBytes, totalBytes: event.totalBytes };
    case 'loaded':
      return { ...progress, phase: 'loaded', loadedBytes: progress.totalBytes };
    case 'serving':
      return { ...progress, phase: 'serving' };
    case 'listening':
    case 'replica-ready':
    case 'replica-lost':
    case 'fatal':
      break;
  }
  return progress;
}

/** Whole percent loaded; 100 only when all is. A rank that has not said how much it loads counts like the largest. */
export function percentLoaded(ranks: readonly ProcessProgress[]): number {
  if (ranks.every(({ phase }) => phase === 'loaded' || phase === 'serving')) return 100;
  const largest = Math.max(0, ...ranks.map(({ totalBytes }) => totalBytes));
  const total = ranks.reduce((sum, { totalBytes }) => sum + (totalBytes || largest), 0);
  const loaded = ranks.reduce((sum, { loadedBytes }) => sum + loadedBytes, 0);
  return total === 0 ? 0 : Math.min(99, Math.floor((100 * loaded) / total));
}

function number(value: unknown): number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : 0;
}

/** Errors are logged as text or as objects with a message. */
function text(value: unknown): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'object' && value !== null && 'message' in value) return text(value.message);
  return value === undefined ? '' : JSON.stringify(value);
}
