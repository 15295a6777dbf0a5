// The whole cluster of test/cluster: its network, its nodes' power, its API server, the processes in its pods.

import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const CLUSTER = join(ROOT, 'test/cluster/cluster.sh');

export interface RunOptions {
  readonly input?: string;
  readonly timeoutMs?: number;
  /** Environment on top of the lab's. */
  readonly env?: Readonly<Record<string, string>>;
}

/** One process of a pod, seen from outside all namespaces. */
export interface PodProcess {
  readonly pid: number;
  readonly args: readonly string[];
}

export class Lab {
  readonly stateDirectory: string;
  readonly #env: NodeJS.ProcessEnv;

  constructor(stateDirectory: string, env: NodeJS.ProcessEnv = {}) {
    this.stateDirectory = stateDirectory;
    this.#env = { ...process.env, ...env, STATE_DIR: stateDirectory };
  }

  get kubeconfig(): string {
    return join(this.stateDirectory, 'admin.kubeconfig');
  }

  async up(): Promise<void> {
    await this.#cluster(['up'], 180_000);
  }

  async down(): Promise<void> {
    await this.#cluster(['down'], 120_000);
  }

  async loadImages(archives: readonly string[]): Promise<void> {
    await this.#cluster(['load-images', ...archives], 180_000);
  }

  /** Cuts a node's power: every process of it ends at once. */
  async killNode(name: string): Promise<void> {
    await this.#cluster(['node-kill', name], 60_000);
  }

  async startNode(name: string): Promise<void> {
    await this.#cluster(['node-up', name], 60_000);
  }

  /** Runs a program in the lab's network and returns its output; throws with its complaint. */
  async run(program: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
    return await this.#cluster(['exec', program, ...args], options.timeoutMs ?? 60_000, options);
  }

  /** Starts a program in the lab's network, in a process group of its own; `kill` it. */
  start(
    program: string,
    args: readonly string[],
    options: { readonly quiet?: boolean; readonly env?: Readonly<Record<string, string>> } = {},
  ): ChildProcess {
    return spawn('bash', [CLUSTER, 'exec', program, ...args], {
      detached: true,
      stdio: ['pipe', 'pipe', options.quiet === true ? 'ignore' : 'pipe'],
      env: { ...this.#env, ...options.env },
    });
  }

  /** Ends what `start` started; nothing happens where it has ended. */
  kill(child: ChildProcess, signal: NodeJS.Signals = 'SIGKILL'): void {
    if (child.pid === undefined) return;
    try {
      process.kill(-child.pid, signal);
    } catch {
      // It has ended.
    }
  }

  /** Processes of a pod's containers: they carry its name as host name. */
  async podProcesses(pod: string): Promise<PodProcess[]> {
    const found: PodProcess[] = [];
    for (const entry of await readdir('/proc')) {
      const pid = Number(entry);
      if (!Number.isInteger(pid)) continue;
      try {
        const environment = (await readFile(`/proc/${pid}/environ`, 'utf8')).split('\0');
        if (!environment.includes(`HOSTNAME=${pod}`)) continue;
        const args = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0').slice(0, -1);
        if (args.length > 0) found.push({ pid, args });
      } catch {
        // It has ended between the two looks, or is a kernel thread.
      }
    }
    return found;
  }

  /** Kills a pod's processes as the kernel would for want of memory: at once, with no chance to say so. */
  async killPodProcesses(pod: string): Promise<number> {
    const processes = await this.podProcesses(pod);
    for (const { pid } of processes) process.kill(pid, 'SIGKILL');
    return processes.length;
  }

  /** Kills the API server, and starts it again with the same data once `meanwhile` is over. */
  async restartApiServer(meanwhile: () => Promise<void>): Promise<void> {
    await this.#cluster(['stop-api-server'], 30_000);
    try {
      await meanwhile();
    } finally {
      await this.#cluster(['start-api-server'], 120_000);
    }
  }

  async #cluster(args: readonly string[], timeoutMs: number, options: RunOptions = {}): Promise<string> {
    return await new Promise((resolve, reject) => {
      const child = execFile(
        'bash',
        [CLUSTER, ...args],
        {
          timeout: timeoutMs,
          killSignal: 'SIGKILL',
          maxBuffer: 64 << 20,
          env: { ...this.#env, ...options.env },
        },
        (error, stdout, stderr) => {
          if (error === null) return resolve(stdout);
          const command = args
            .slice(args[0] === 'exec' ? 1 : 0)
            .join(' ')
            .slice(0, 300);
          reject(new Error(`${command}: ${(stderr + stdout).trim().slice(-4000)}`, { cause: error }));
        },
      );
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(options.input ?? '');
    });
  }
}
