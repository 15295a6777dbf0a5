// Where the keys and values of a conversation are believed to lie. A belief only lowers a cost: when it is wrong, the prompt is computed.

import { RecentMap } from './recent.ts';

const MOST_KEYS = 10_000;

/** The replica that served each affinity key last, and how many tokens it then held for it. Bounded. */
export class Affinity {
  readonly #last = new RecentMap<string, { readonly replica: string; readonly tokens: number }>(MOST_KEYS);

  served(key: string, salt: string, replica: string, tokens: number): void {
    if (key !== '') this.#last.set(cacheKey(key, salt), { replica, tokens });
  }

  /** Tokens of a prompt of `promptTokens` that the replica is believed to hold. */
  hitTokens(key: string, salt: string, replica: string, promptTokens: number): number {
    if (key === '') return 0;
    const last = this.#last.get(cacheKey(key, salt));
    return last?.replica === replica ? Math.min(last.tokens, promptTokens) : 0;
  }
}

// Prefixes are shared only inside a salt.
function cacheKey(key: string, salt: string): string {
  return `${salt}\u0000${key}`;
}
