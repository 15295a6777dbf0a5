// Steps that build on each other: after one has failed the others are left out, and its evidence is kept.

import { it } from 'vitest';

export interface StepResult {
  readonly name: string;
  readonly seconds: number;
  readonly passed: boolean;
}

export class Steps {
  readonly results: StepResult[] = [];
  readonly #before: (name: string) => void;
  readonly #failed: (name: string) => Promise<string>;

  /** `before` is called ahead of each step; `failed` saves the evidence and returns where. */
  constructor(before: (name: string) => void, failed: (name: string) => Promise<string>) {
    this.#before = before;
    this.#failed = failed;
  }

  get broken(): boolean {
    return this.results.some(({ passed }) => !passed);
  }

  step(name: string, body: () => Promise<void>, timeoutMs = 240_000): void {
    it(name, { timeout: timeoutMs }, async (context) => {
      if (this.broken) context.skip('a step before it failed');
      const begin = performance.now();
      let passed = false;
      this.#before(name);
      try {
        await body();
        passed = true;
      } catch (error) {
        const evidence = await this.#failed(name).catch((cause: unknown) => `nowhere: ${String(cause)}`);
        throw new Error(`${error instanceof Error ? error.message : String(error)}\nevidence: ${evidence}`, {
          cause: error,
        });
      } finally {
        this.results.push({ name, seconds: (performance.now() - begin) / 1000, passed });
      }
    });
  }

  table(): string {
    const total = this.results.reduce((sum, { seconds }) => sum + seconds, 0);
    return [
      ...this.results.map(
        ({ name, seconds, passed }) =>
          `${passed ? 'ok  ' : 'FAIL'} ${seconds.toFixed(1).padStart(6)} s  ${name}`,
      ),
      `${' '.repeat(5)}${total.toFixed(1).padStart(6)} s  in all`,
    ].join('\n');
  }
}
