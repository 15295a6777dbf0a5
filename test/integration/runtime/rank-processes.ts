// Rank processes for tests: started on free ports, their log lines collected, all of them reaped by stopAll.

import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const FIXTURES = fileURLToPath(new URL('../../fixtures/', import.meta.url));
const MAIN = fileURLToPath(new URL('../../../runtime/main.ts', import.meta.url));

export interface LogLine {
  readonly message: string;
  readonly level: string;
  readonly [field: string]: unknown;
}

/** One running rank. */
export class RankProcess {
  readonly address: string;
  readonly logs: LogLine[] = [];
  readonly exitCode: Promise<number | null>;
  readonly #child: ChildProcess;
  readonly #watchers = new Set<() => void>();
  #output = '';
  #exited = false;

  constructor(address: string, args: readonly string[]) {
    this.address = address;
    this.#child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.exitCode = new Promise((resolve) => {
      this.#child.on('close', (code) => {
        this.#exited = true;
        this.#wake();
        resolve(code);
      });
    });
    createInterface({ input: this.#child.stdout! }).on('line', (line) => {
      this.#output += `${line}\n`;
      if (line.startsWith('{')) this.logs.push(JSON.parse(line) as LogLine);
      this.#wake();
    });
    this.#child.stderr!.on('data', (bytes: Buffer) => (this.#output += bytes.toString()));
  }

  /** The first log line with that message; rejects with all output when the process ends without it. */
  async log(message: string): Promise<LogLine> {
    for (;;) {
      const found = this.logs.find((line) => line.message === message);
      if (found) return found;
      if (this.#exited) throw new Error(`the process ended without '${message}':\n${this.#output}`);
      await new Promise<void>((resolve) => this.#watchers.add(resolve));
    }
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  #wake(): void {
    for (const resolve of this.#watchers) resolve();
    this.#watchers.clear();
  }
}

const running: RankProcess[] = [];

/** Starts one process of rank `rank` on a free port. */
export async function startRank(args: readonly string[]): Promise<RankProcess> {
  const address = await freeAddress();
  return startRankAt(address, args);
}

export function startRankAt(address: string, args: readonly string[]): RankProcess {
  const started = new RankProcess(address, ['--listen', address, ...args]);
  running.push(started);
  return started;
}

/** Starts all ranks of a group, rank 0 first in the result. */
export async function startGroup(
  worldSize: number,
  args: readonly string[],
  perRank: (rank: number) => readonly string[] = () => [],
): Promise<RankProcess[]> {
  const addresses: string[] = [];
  while (addresses.length < worldSize) {
    const address = await freeAddress();
    if (!addresses.includes(address)) addresses.push(address);
  }
  return addresses.map((address, rank) =>
    startRankAt(address, [
      '--world-size',
      String(worldSize),
      '--rank',
      String(rank),
      '--ranks',
      addresses.join(','),
      ...args,
      ...perRank(rank),
    ]),
  );
}

/** Kills and reaps every process that was started. */
export async function stopAll(): Promise<void> {
  const stopping = running.splice(0);
  for (const rank of stopping) {
    rank.kill('SIGCONT');
    rank.kill('SIGKILL');
  }
  await Promise.all(stopping.map((rank) => rank.exitCode));
}

export function freeAddress(): Promise<string> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.on('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(`127.0.0.1:${port}`));
    });
  });
}
