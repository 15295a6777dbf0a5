// The operator as its image has it, in a process of its own, and what that process costs.

import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createWriteStream, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const BUNDLER = fileURLToPath(new URL('../../scripts/bundle-image.ts', import.meta.url));
const TICKS_PER_SECOND = 100;
/** Any free port. */
const LISTEN = '127.0.0.1:0';

export interface Memory {
  readonly nowMiB: number;
  readonly mostMiB: number;
}

/** Bundles the operator once; returns its program. */
export async function bundleOperator(folder: string): Promise<string> {
  // In a process of its own: the bundler's own process would go on working beside what is measured.
  await promisify(execFile)(process.execPath, [BUNDLER, 'operator', folder]);
  return join(folder, 'opt/internvl/operator/main.js');
}

/** Processor time of a process since its start. */
export async function cpuSecondsOf(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

interface Addresses {
  readonly metrics: string;
  readonly health: string;
}

/** Where it says that it listens; never settles when it ends before, which whoever waits finds out otherwise. */
function listening(child: ChildProcess): Promise<Addresses> {
  return new Promise((resolve) => {
    let text = '';
    const take = (chunk: Buffer): void => {
      text += chunk.toString();
      const line = text.split('\n').find((candidate) => candidate.includes('"listening"'));
      if (line === undefined || !text.includes(`${line}\n`)) return;
      // Not through readline, whose close() would pause the pipe, and with it the operator as soon as the pipe is full.
      child.stdout?.off('data', take);
      resolve(JSON.parse(line) as Addresses);
    };
    child.stdout?.on('data', take);
  });
}

/** Those of the program's own first line, which the image starts it by. */
function nodeFlags(program: string): string[] {
  const [, ...flags] = readFileSync(program, 'utf8').split('\n', 1)[0]?.trim().split(' ') ?? [];
  return flags;
}

export class OperatorProcess {
  readonly startedAt = performance.now();
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  readonly #addresses: Promise<Addresses>;
  #said = '';

  /** `flags` are more of Node's own, to profile it. */
  constructor(program: string, kubeconfig: string, log: string, flags: readonly string[] = []) {
    this.#child = spawn(
      process.execPath,
      [
        ...nodeFlags(program),
        ...flags,
        program,
        `--kubeconfig=${kubeconfig}`,
        '--runtime-image=localhost/internvl-runtime:bench',
        '--router-image=localhost/internvl-operator:bench',
        '--identity=bench',
        `--metrics-listen=${LISTEN}`,
        `--health-listen=${LISTEN}`,
      ],
      { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NODE_ENV: 'production' } },
    );
    this.#addresses = listening(this.#child);
    const file = createWriteStream(log, { flags: 'a' });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.pipe(file, { end: false });
      stream?.on('data', (chunk: Buffer) => (this.#said = (this.#said + chunk.toString()).slice(-2000)));
    }
    this.#ended = new Promise((resolve) =>
      this.#child.once('exit', () => {
        file.end();
        resolve();
      }),
    );
  }

  /** Waits until its caches are synced. */
  async ready(): Promise<void> {
    await this.#until(async () => (await fetch(`http://${(await this.#addresses).health}/readyz`)).ok);
  }

  /** Waits until it leads, has looked at `count` deployments and has none left to look at. */
  async reconciled(count: number): Promise<void> {
    await this.#until(async () => {
      const metrics = await this.metrics();
      return (
        metrics.sum('controller_runtime_reconcile_total') >= count &&
        metrics.sum('workqueue_depth') === 0 &&
        metrics.sum('controller_runtime_active_workers') === 0
      );
    });
  }

  async metrics(): Promise<Metrics> {
    return new Metrics(await (await fetch(`http://${(await this.#addresses).metrics}/metrics`)).text());
  }

  /** Seconds of processor time since its start. */
  async cpuSeconds(): Promise<number> {
    return await cpuSecondsOf(this.#pid);
  }

  async memory(): Promise<Memory> {
    const text = await readFile(`/proc/${this.#pid}/status`, 'utf8');
    const read = (name: string) =>
      Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? Number.NaN) / 1024;
    return { nowMiB: read('VmRSS'), mostMiB: read('VmHWM') };
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGTERM');
    await this.#ended;
  }

  get #pid(): number {
    const { pid, exitCode } = this.#child;
    if (pid === undefined || exitCode !== null)
      throw new Error(`the operator ended with ${exitCode}: ${this.#said}`);
    return pid;
  }

  async #until(holds: () => Promise<boolean>): Promise<void> {
    while (!(await holds().catch(() => false))) {
      // Throws once it has ended.
      void this.#pid;
      await pause(20);
    }
  }
}

/** Prometheus' text, by name. */
export class Metrics {
  readonly #lines: readonly string[];

  constructor(text: string) {
    this.#lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  }

  /** Over all labels. */
  sum(name: string): number {
    let sum = 0;
    for (const line of this.#lines)
      if (line.startsWith(`${name}{`) || line.startsWith(`${name} `))
        sum += Number(line.slice(line.lastIndexOf(' ') + 1));
    return sum;
  }
}
