import type { Dispatcher, DispatcherClient } from './dispatcher.ts';

/** Runs one short generation through every rank, so that the first request finds everything in place; rejects when it fails. */
export function warmUp(dispatcher: Dispatcher, tokenId: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const client: DispatcherClient = {
      onOutput: ({ finished: [finished] }) => {
        if (!finished) return;
        dispatcher.disconnect(client);
        if (finished.reason === 'error')
          reject(new Error(`the warm-up step failed: ${finished.message ?? ''}`));
        else resolve();
      },
      onStepEnd: () => undefined,
      onLost: reject,
    };
    dispatcher.connect(client);
    dispatcher.submit(client, [
      {
        handle: 1,
        tokenIds: Uint32Array.of(tokenId),
        images: [],
        sampling: {
          temperature: 0,
          topP: 1,
          topK: 0,
          repetitionPenalty: 1,
          maxTokens: 1,
          minTokens: 0,
          seed: 0n,
          stopTokenIds: [],
          ignoreEos: true,
        },
        logprobs: undefined,
        priority: 0,
        cacheSalt: '',
      },
    ]);
  });
}
