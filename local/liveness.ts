// What a kubelet does with a liveness probe: a process that has answered before and does not any more is hung, and only its end helps.
import { get } from 'node:http';

export interface LivenessOptions {
  readonly intervalMs: number;
  /** How long one answer may take. */
  readonly timeoutMs: number;
  /** This many unanswered calls in a row make a process hung. */
  readonly failures: number;
}

/** As the planner's liveness probe, but quicker: nothing but this machine lies in between. */
export const LIVENESS: LivenessOptions = { intervalMs: 2000, timeoutMs: 2000, failures: 4 };

/** Calls `onHung` at most once; returns how to stop watching. Refused connections do not count: the process is starting or ending. */
export function watchLiveness(address: string, options: LivenessOptions, onHung: () => void): () => void {
  const stopped = new AbortController();
  let answered = false;
  let unanswered = 0;
  let timer = setTimeout(ask, options.intervalMs);

  function ask(): void {
    const call = get(`http://${address}/healthz`, {
      agent: false,
      timeout: options.timeoutMs,
      signal: stopped.signal,
    });
    let timedOut = false;
    call.on('response', (response) => {
      response.resume();
      answered = true;
      unanswered = 0;
    });
    call.on('timeout', () => {
      timedOut = true;
      call.destroy();
    });
    call.on('error', () => {}); // refused, or cut by the timeout: 'close' follows
    call.on('close', () => {
      if (timedOut && answered) unanswered += 1;
      if (stopped.signal.aborted) return;
      if (unanswered < options.failures) timer = setTimeout(ask, options.intervalMs);
      else onHung();
    });
  }

  return () => {
    clearTimeout(timer);
    stopped.abort();
  };
}
