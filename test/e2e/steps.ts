// Steps that build on each other: after one has failed the others are left out, and its evidence is kept.

import { it } from 'vitest';

export interface StepResult {
  readonly name: string;
  readonly seconds: number;
  /** Why it failed; undefined = it passed. */
  readonly failure: string | undefined;
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
    return this.results.some(({ failure }) => failure !== undefined);
  }

  step(name: string, body: () => Promise<void>, timeoutMs = 240_000): void {
    it(name, { timeout: timeoutMs }, async (context) => {
      if (this.broken) context.skip('a step before it failed');
      const begin = performance.now();
      let failure: string | undefined;
      this.#before(name);
      try {
        await body();
      } catch (error) {
        failure = error instanceof Error ? error.message : String(error);
        const evidence = await this.#failed(name).catch((cause: unknown) => `nowhere: ${String(cause)}`);
        throw new Error(`${failure}\nevidence: ${evidence}`, { cause: error });
      } finally {
        this.results.push({ name, seconds: (performance.now() - begin) / 1000, failure });
      }
    });
  }

  table(): string {
    const total = this.results.reduce((sum, { seconds }) => sum + seconds, 0);
    return [
      ...this.results.map(
        ({ name, seconds, failure }) =>
          `${failure === undefined ? 'ok  ' : 'FAIL'} ${seconds.toFixed(1).padStart(6)} s  ${name}${told(failure)}`,
      ),
      `${' '.repeat(5)}${total.toFixed(1).padStart(6)} s  in all`,
    ].join('\n');
  }
}

/** The beginning of a failure, indented below its step: the end of a build's log shows this table, and little else. */
function told(failure: string | undefined): string {
  if (failure === undefined) return '';
  const lines = failure.slice(0, 2000).split('\n').slice(0, 20);
  return lines.map((line) => `\n${' '.repeat(15)}${line}`).join('');
}
