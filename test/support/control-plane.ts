// The control plane of this test run: a real API server, scheduler and controller manager, and no nodes unless kwok makes some.

import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inject } from 'vitest';

export const CONTROL_PLANE_SCRIPT = fileURLToPath(new URL('../cluster/control-plane.sh', import.meta.url));
const PROGRAMS_SCRIPT = fileURLToPath(new URL('../cluster/programs/build.sh', import.meta.url));

declare module 'vitest' {
  interface ProvidedContext {
    /** Of the run's control plane: certificates, logs, data. */
    controlPlaneDirectory: string;
  }
}

/** What a command said, whether it succeeded (0) or not. */
export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
}

export interface ControlPlane {
  /** Of an administrator. */
  readonly kubeconfig: string;
  /** JSON lines: what clients asked the API server for, Kubernetes' own components left out. */
  readonly auditLog: string;
  /** Makes a namespace that no other test uses, and waits until pods can be created in it. */
  readonly namespace: () => Promise<string>;
  /** Runs the real kubectl as administrator; a refusal is a result, not an error. */
  readonly kubectl: (args: readonly string[], stdin?: string) => Promise<CommandResult>;
  /** Kills the API server and returns once it answers again, at the same address with the same data. All tests of the run feel it. */
  readonly restartApiServer: () => Promise<void>;
  /** As if it had crashed; `startApiServer` brings it back. */
  readonly stopApiServer: () => Promise<void>;
  readonly startApiServer: () => Promise<void>;
}

/** The one of this run; tests of the vitest project `control-plane` have it. */
export async function controlPlane(): Promise<ControlPlane> {
  return controlPlaneAt(inject('controlPlaneDirectory'), await programsDirectory());
}

/** Where the programs are that test/cluster/programs pins: kubectl, helm, promtool and the others. */
export async function programsDirectory(): Promise<string> {
  return (await command('bash', [PROGRAMS_SCRIPT, '--where'])).stdout.trim();
}

export function controlPlaneAt(directory: string, programs: string): ControlPlane {
  const kubeconfig = join(directory, 'admin.kubeconfig');
  const kubectl = (args: readonly string[], stdin?: string) =>
    run(join(programs, 'kubectl'), ['--kubeconfig', kubeconfig, ...args], {
      ...(stdin !== undefined && { stdin }),
    });
  const script = async (...args: readonly string[]) => {
    await command('bash', [CONTROL_PLANE_SCRIPT, ...args], { env: { STATE_DIR: directory } });
  };
  const startApiServer = () => script('start-api-server');
  const stopApiServer = () => script('stop-api-server');
  return {
    kubeconfig,
    auditLog: join(directory, 'log/audit.log'),
    kubectl,
    stopApiServer,
    startApiServer,
    restartApiServer: async () => {
      await stopApiServer();
      await startApiServer();
    },
    namespace: async () => {
      const name = `test-${randomBytes(5).toString('hex')}`;
      for (const args of [
        ['create', 'namespace', name],
        // The controller manager makes it; the API server refuses pods before.
        ['-n', name, 'wait', '--for=create', 'serviceaccount/default', '--timeout=60s'],
      ]) {
        const { code, stderr } = await kubectl(args);
        if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${stderr}`);
      }
      return name;
    },
  };
}

export interface RunOptions {
  readonly stdin?: string;
  /** On top of this process's own. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a program to its end; throws only when it cannot be started or was killed. */
export async function run(
  program: string,
  args: readonly string[],
  { stdin, env }: RunOptions = {},
): Promise<CommandResult> {
  return await new Promise((resolve, reject) => {
    const child = execFile(
      program,
      args,
      { env: { ...process.env, ...env }, maxBuffer: 256 << 20 },
      (error, stdout, stderr) => {
        if (error !== null && typeof error.code !== 'number') return reject(error);
        resolve({ stdout, stderr, code: error === null ? 0 : Number(error.code) });
      },
    );
    // A program may end without having read its input.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(stdin ?? '');
  });
}

/** Like `run`; throws with the program's complaint when it fails. */
export async function command(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<CommandResult> {
  const result = await run(program, args, options);
  if (result.code !== 0) {
    throw new Error(
      `${program} ${args.join(' ')} ended with ${result.code}: ${(result.stderr || result.stdout).trim()}`,
    );
  }
  return result;
}
