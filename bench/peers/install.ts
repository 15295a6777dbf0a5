// Peers are installed once, each into a folder of its own named after what is pinned here, so that another pin is another installation.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

interface Pins {
  readonly pip: readonly string[];
  readonly npm?: readonly string[];
}

const PLATFORM = `${process.platform}-${process.arch}`;

export const PEERS = {
  PyTorch: { pip: ['torch==2.15.0', 'numpy==2.4.6'] },
  // The wheels of llama.cpp are sources; the npm package has it built for every instruction set. gguf writes its files.
  'llama.cpp': { pip: ['gguf==0.19.0', 'numpy==2.4.6'], npm: [`@node-llama-cpp/${PLATFORM}@3.22.1`] },
  'sglang-router': { pip: ['sglang-router==0.3.2'] },
  'vllm-router': { pip: ['vllm-router==0.1.17'] },
} as const satisfies Record<string, Pins>;

export type PeerName = keyof typeof PEERS;

export const LLAMA_ADDON = `node_modules/@node-llama-cpp/${PLATFORM}/bins/${PLATFORM}/llama-addon.node`;

const ROOT = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'internvl-bench');
const MARK = '.installed';
const run = promisify(execFile);

/** The folder of a peer, with `bin/python` in it; installs it when it is missing. Throws with the client's own last words. */
export async function install(name: PeerName, say: (text: string) => void): Promise<string> {
  const { pip, npm = [] }: Pins = PEERS[name];
  const hash = createHash('sha256')
    .update(JSON.stringify([pip, npm]))
    .digest('hex')
    .slice(0, 12);
  const folder = join(ROOT, `${name}-${hash}`);
  if (existsSync(join(folder, MARK))) return folder;
  say(`installing ${[...pip, ...npm].join(' ')}`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  try {
    await attempt('python3', ['-m', 'venv', folder]);
    await attempt(join(folder, 'bin/pip'), ['install', '--quiet', '--prefer-binary', ...pip]);
    if (npm.length > 0) {
      const flags = ['--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error'];
      await attempt('npm', ['install', '--prefix', folder, ...flags, ...npm]);
    }
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
  writeFileSync(join(folder, MARK), '');
  return folder;
}

async function attempt(program: string, args: readonly string[]): Promise<void> {
  try {
    await run(program, args, { maxBuffer: 1 << 24 });
  } catch (error) {
    const { stderr = '', message } = error as Error & { stderr?: string };
    const errors = stderr.split('\n').filter((line) => /error/i.test(line));
    throw new Error(`${program.split('/').at(-1)} ${args[0]}: ${errors.at(-1) ?? message}`, { cause: error });
  }
}
