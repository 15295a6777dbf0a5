// Starts a server for a tool with `internvl up`, and stops it again.
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parse, stringify } from 'yaml';

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const READY_TIMEOUT_MS = 180_000;
const STOP_TIMEOUT_MS = 30_000;

/** What may differ from `examples/demo.yaml`. */
export interface DemoServerOptions {
  model?: string | undefined;
  tensorParallelSize?: number | undefined;
  quantization?: string | undefined;
}

/** A running server: its gRPC address, and the way to end it. */
export interface DemoServer {
  address: string;
  stop(): Promise<void>;
}

/** Starts `internvl up` on the demo manifest and waits until it answers; fails when it exits or takes over 3 minutes. */
export async function startDemoServer(options: DemoServerOptions): Promise<DemoServer> {
  const folder = await mkdtemp(join(tmpdir(), 'internvl-demo-'));
  const manifest = join(folder, 'demo.yaml');
  const readyFile = join(folder, 'ready.json');
  const text = await readFile(join(ROOT, 'examples', 'demo.yaml'), 'utf8');
  await writeFile(manifest, adjustManifest(text, join(ROOT, 'examples'), options));
  const child = spawn(
    join(ROOT, 'bin', 'internvl'),
    ['up', '-f', manifest, '--grpc-port', '0', '--ready-file', readyFile],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  let failure: Error | undefined;
  child.once('error', (error) => {
    failure = new Error('cannot start bin/internvl', { cause: error });
  });
  const stop = async (): Promise<void> => {
    await stopProcess(child);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const deadline = Date.now() + READY_TIMEOUT_MS;
    for (;;) {
      const address = await readAddress(readyFile);
      if (address !== undefined) return { address, stop };
      if (failure !== undefined) throw failure;
      if (child.exitCode !== null)
        throw new Error(`internvl up ended with code ${child.exitCode} before it was ready`);
      if (Date.now() > deadline)
        throw new Error(`internvl up was not ready within ${READY_TIMEOUT_MS / 1000} s`);
      await sleep(100);
    }
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The manifest with another model, tensor-parallel size or quantization; a relative model path is made absolute from `folder`. */
export function adjustManifest(text: string, folder: string, options: DemoServerOptions): string {
  const manifest = parse(text) as {
    spec: { model: { source: string }; tensorParallel?: { size?: number }; engine?: Record<string, unknown> };
  };
  const { model } = manifest.spec;
  const path = options.model === undefined ? undefined : resolve(options.model);
  model.source = `file:${path ?? resolve(folder, model.source.replace(/^file:(\/\/(?=\/))?/u, ''))}`;
  if (options.tensorParallelSize !== undefined) {
    manifest.spec.tensorParallel = { ...manifest.spec.tensorParallel, size: options.tensorParallelSize };
  }
  if (options.quantization !== undefined) {
    manifest.spec.engine = { ...manifest.spec.engine, quantization: options.quantization };
  }
  return stringify(manifest);
}

async function readAddress(readyFile: string): Promise<string | undefined> {
  let text: string;
  try {
    text = await readFile(readyFile, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  if (!text.trimEnd().endsWith('}')) return undefined; // still being written
  return (JSON.parse(text) as { grpc: string }).grpc;
}

async function stopProcess(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((done) => child.once('exit', done));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
  await ended;
  clearTimeout(timer);
}
