// The proof that a replica works: one short generation through all its ranks.

import { FinishReason } from '../gen/proto/internvl/v1/generation.ts';
import type { AttemptListener } from './attempt.ts';
import type { ServedModel } from './models.ts';
import type { Abortable, Work } from './request.ts';

/** The prompt has few tokens, but a replica's first step may have to load what it was lazy about. */
const DEADLINE_MS = 60_000;

/** Exactly one of these is called. */
export interface ProbeListener {
  onPassed(): void;
  /** With what went wrong, in words. */
  onFailed(message: string): void;
  /** The session ended or the replica began to drain first, which says nothing about the generation. */
  onLost(): void;
}

/** Runs one token's worth of work. */
export function startProbe(
  model: ServedModel,
  run: (work: Work, listener: AttemptListener) => Abortable,
  listener: ProbeListener,
): void {
  const timer = setTimeout(() => {
    attempt.abort();
    listener.onFailed(`its first generation took longer than ${DEADLINE_MS} ms`);
  }, DEADLINE_MS);
  const { tokenIds } = model.prompt({ messages: [{ role: 'user', text: 'Hello' }], imageCount: 0 });
  const attempt = run(
    {
      tokenIds,
      pictures: [],
      // An end of sequence as the first token would prove as much, but nothing would come back.
      sampling: { temperature: 0, maxTokens: 1, stop: [], stopTokenIds: [], ignoreEos: true },
      logprobs: undefined,
      priorityClass: 2,
      deadlineAt: undefined,
      cacheSalt: '',
    },
    {
      onAccepted: () => undefined,
      onTokens: () => undefined,
      onDone: (done) => {
        clearTimeout(timer);
        if (done.finishReason === FinishReason.ABORT) listener.onFailed('its first generation was aborted');
        else listener.onPassed();
      },
      onFailed: (error, lost) => {
        clearTimeout(timer);
        if (lost) listener.onLost();
        else listener.onFailed(`its first generation failed: ${error.message}`);
      },
      onHandedBack: () => {
        clearTimeout(timer);
        listener.onLost();
      },
    },
  );
}
