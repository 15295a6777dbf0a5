// Our engine beside PyTorch and llama.cpp: the same shapes, threads and machine, in turn. Weights are random: speed depends on shapes alone.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { IsaLimit } from '../isa-limit.ts';
import { readBandwidth } from '../read-bandwidth.ts';
import { LAYER_OF_40B, SMALL_MODEL, type Shape } from '../shapes.ts';
import { EngineProcess, type Pass } from './engine-process.ts';
import { install, LLAMA_ADDON } from './install.ts';
import { aboutLimit, llamaBackends, PYTORCH_ENVIRONMENT } from './isa-limits.ts';
import type { Comparison, Missing } from './page.ts';
import { median, peerRow, rowLine, type PeerRow } from './rows.ts';

const CONTEXT = 512;
const ROUNDS = 3;
const file = (name: string) => fileURLToPath(new URL(name, import.meta.url));

export interface EngineOptions {
  readonly threads: number;
  /** What the engines are held to, ours by this process's environment; undefined: all that the machine has. */
  readonly isaLimit: IsaLimit | undefined;
  readonly say: (text: string) => void;
}

type Contender = 'ours' | 'PyTorch' | 'llama.cpp' | 'vLLM';

/** What is measured at once: the engines that hold the same shape with weights of the same width. */
interface Stage {
  readonly name: string;
  readonly shape: Shape;
  readonly dtype: 'bfloat16' | 'float32';
  readonly quantization?: 'int8';
  readonly gguf?: 'BF16' | 'Q8_0';
  readonly passes: readonly Pass[];
}

const decode = (sequences: number, times: number): Pass => ({
  op: 'decode',
  sequences,
  context: CONTEXT,
  times,
});
const prefill = (tokens: number): Pass => ({ op: 'prefill', tokens, times: 1 });
const image: Pass = { op: 'image', times: 1 };
const ALL = [decode(1, 9), decode(8, 5), decode(32, 3), prefill(512)];

const STAGES: readonly Stage[] = [
  {
    name: '0.3B Llama, bfloat16',
    shape: SMALL_MODEL,
    dtype: 'bfloat16',
    gguf: 'BF16',
    passes: [...ALL, prefill(2048), image],
  },
  { name: '0.3B Llama, float32', shape: SMALL_MODEL, dtype: 'float32', passes: [...ALL, image] },
  {
    name: '0.3B Llama, 8-bit',
    shape: SMALL_MODEL,
    dtype: 'bfloat16',
    quantization: 'int8',
    gguf: 'Q8_0',
    passes: ALL,
  },
  { name: 'a layer of the 40B, bfloat16', shape: LAYER_OF_40B, dtype: 'bfloat16', gguf: 'BF16', passes: ALL },
  {
    name: 'a layer of the 40B, 8-bit',
    shape: LAYER_OF_40B,
    dtype: 'bfloat16',
    quantization: 'int8',
    gguf: 'Q8_0',
    passes: ALL,
  },
];

/** Peers that cannot be had, or cannot do a pass, are told in `missing`. */
export async function compareEngines(options: EngineOptions): Promise<Comparison> {
  const { isaLimit, say } = options;
  const directory = mkdtempSync(join(tmpdir(), 'internvl-peers-'));
  const peers: Peers = { gguf: join(directory, 'model.gguf'), missing: [], versions: {} };
  try {
    try {
      const folder = await install('PyTorch', say);
      peers.torch = {
        python: join(folder, 'bin/python'),
        environment: isaLimit === undefined ? {} : PYTORCH_ENVIRONMENT[isaLimit],
      };
    } catch (error) {
      peers.missing.push({ peer: 'PyTorch', reason: (error as Error).message });
    }
    try {
      const folder = await install('llama.cpp', say);
      const addon = join(folder, LLAMA_ADDON);
      peers.llama = {
        python: join(folder, 'bin/python'),
        addon,
        backends:
          isaLimit === undefined
            ? dirname(addon)
            : llamaBackends(addon, join(directory, 'backends'), isaLimit),
      };
    } catch (error) {
      peers.missing.push({ peer: 'llama.cpp', reason: (error as Error).message });
    }
    try {
      if (isaLimit !== undefined) throw new Error(`its kernels cannot be held to ${isaLimit}`);
      peers.vllm = { python: join(await install('vLLM', say), 'bin/python') };
    } catch (error) {
      peers.missing.push({ peer: 'vLLM', reason: (error as Error).message });
    }
    const rows: PeerRow[] = [];
    for (const stage of STAGES) rows.push(...(await runStage(stage, peers, options)));
    const { missing, versions } = peers;
    return { about: ABOUT + aboutLimit(isaLimit), rows, missing, versions };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** What is installed, and what became of it. */
interface Peers {
  torch?: { readonly python: string; readonly environment: Readonly<Record<string, string>> };
  llama?: { readonly python: string; readonly addon: string; readonly backends: string };
  vllm?: { readonly python: string };
  readonly gguf: string;
  readonly missing: Missing[];
  readonly versions: Record<string, string>;
}

const ABOUT = `Forward passes of one rank over ${CONTEXT} tokens of context. PyTorch: a decoder and a vision layer in eager mode
(\`bench/peers/engine-pytorch.py\`). llama.cpp: \`llama_decode\` with flash attention on a GGUF file of the same shape, its keys and values in float16.
vLLM: its CPU backend, random weights, whole steps of its engine, so with scheduling and sampling; eager, without its prefix cache.
The limit of decoding is the time to read weights, keys and values once at the read bandwidth measured in the same rounds, that of the others the time of ours for
their matrix products alone. At 8 bits ours keeps the output head in bfloat16; PyTorch has none of that kind. In the last layer ours and llama.cpp
compute little more than keys and values for rows whose logits are not wanted, PyTorch and vLLM everything: of a model of one layer that is most of the
prefill, of the 0.3B with its 16 layers a twentieth, of the 40B with its 60 about 1 %.`;

async function runStage(
  stage: Stage,
  { torch, llama, vllm, gguf, missing, versions }: Peers,
  { threads, say }: EngineOptions,
): Promise<PeerRow[]> {
  say(stage.name);
  const engines = new Map<Contender, EngineProcess>();
  const drop = async (name: Contender, what: string, error: unknown) => {
    missing.push({ peer: name, reason: `${what}: ${(error as Error).message}` });
    say(`${name}, ${what}: ${(error as Error).message}`);
    await engines.get(name)?.stop();
    engines.delete(name);
  };
  engines.set('ours', new EngineProcess('ours', [process.execPath, file('engine-ours.ts')]));
  if (torch !== undefined && stage.quantization === undefined)
    engines.set(
      'PyTorch',
      new EngineProcess('PyTorch', [torch.python, file('engine-pytorch.py')], torch.environment),
    );
  if (vllm !== undefined && stage.quantization === undefined)
    engines.set('vLLM', new EngineProcess('vLLM', [vllm.python, file('engine-vllm.py')]));
  try {
    if (llama !== undefined && stage.gguf !== undefined) {
      await writeGguf(llama.python, gguf, stage.gguf, stage.shape);
      const args = [file('engine-llama.ts'), llama.addon, llama.backends, gguf] as const;
      engines.set('llama.cpp', new EngineProcess('llama.cpp', [process.execPath, ...args]));
    }
    const { shape, dtype, quantization = 'none' } = stage;
    const load = { op: 'load', shape, dtype, quantization, threads } as const;
    for (const [name, engine] of Array.from(engines))
      try {
        const { version } = await engine.call(load);
        if (version !== undefined) versions[name] = version;
      } catch (error) {
        if (name === 'ours') throw error;
        await drop(name, stage.name, error);
      }
    const rows: PeerRow[] = [];
    for (const pass of stage.passes) rows.push(await measure(stage, pass, engines, drop, threads, say));
    return rows;
  } finally {
    await Promise.all([...engines.values()].map((engine) => engine.stop()));
  }
}

async function measure(
  stage: Stage,
  pass: Pass,
  engines: ReadonlyMap<Contender, EngineProcess>,
  drop: (name: Contender, what: string, error: unknown) => Promise<void>,
  threads: number,
  say: (text: string) => void,
): Promise<PeerRow> {
  const bandwidths: number[] = [];
  const seconds = new Map<Contender, number[]>();
  for (let round = 0; round < ROUNDS; round++) {
    if (pass.op === 'decode') bandwidths.push(readBandwidth(threads));
    for (const [name, engine] of Array.from(engines)) {
      if ((name === 'llama.cpp' || name === 'vLLM') && pass.op === 'image') continue;
      try {
        // A short pass finds its caches cold after another's turn; a long one does not feel it.
        const warmUp = round === 0 || pass.op === 'decode';
        const { seconds: times = [] } = await engine.call({ ...pass, warmUp });
        seconds.set(name, [...(seconds.get(name) ?? []), ...times]);
      } catch (error) {
        if (name === 'ours') throw error;
        await drop(name, `${stage.name}, ${pass.op}`, error);
        seconds.delete(name);
      }
    }
  }
  const toFigure = (value: number) => (pass.op === 'image' ? 1000 * value : tokensOf(pass) / value);
  const figures = (of: (times: readonly number[]) => number) => {
    const named = [...seconds].map(([name, times]): [string, number] => [name, toFigure(of(times))]);
    return {
      ours: named.find(([name]) => name === 'ours')?.[1] ?? null,
      peers: Object.fromEntries(named.filter(([name]) => name !== 'ours')),
    };
  };
  const leastSeconds = await leastSecondsOf(pass, engines.get('ours'), bandwidths);
  const row = peerRow({
    metric: nameOf(pass),
    shape: pass.op === 'image' ? `3200 wide, 25 heads, ${stage.dtype}` : stage.name,
    unit: pass.op === 'image' ? 'ms' : 'tokens/s',
    better: pass.op === 'image' ? 'less' : 'more',
    ...figures(median),
    atBest: figures((times) => Math.min(...times)),
    limit: leastSeconds === undefined ? null : toFigure(leastSeconds),
  });
  say(rowLine(row));
  return row;
}

/** What a pass takes at least: decoding to read all that it needs, the others to multiply their matrices. */
async function leastSecondsOf(
  pass: Pass,
  ours: EngineProcess | undefined,
  bandwidths: readonly number[],
): Promise<number | undefined> {
  if (ours === undefined) return undefined;
  if (pass.op === 'decode') {
    const { bytes } = await ours.call({ op: 'bytes', sequences: pass.sequences, context: pass.context });
    return bytes === undefined ? undefined : bytes / median(bandwidths);
  }
  const products =
    pass.op === 'prefill'
      ? ({ op: 'prefillProducts', tokens: pass.tokens } as const)
      : ({ op: 'imageProducts' } as const);
  const { seconds = [] } = await ours.call({ ...products, times: ROUNDS, warmUp: true });
  return seconds.length === 0 ? undefined : median(seconds);
}

function tokensOf(pass: Pass): number {
  return pass.op === 'decode' ? pass.sequences : pass.op === 'prefill' ? pass.tokens : 1;
}

function nameOf(pass: Pass): string {
  if (pass.op === 'decode') return `decode, batch ${pass.sequences}`;
  if (pass.op === 'prefill') return `prefill, ${pass.tokens} tokens`;
  return 'image encode, 1 layer of InternViT-6B + projector';
}

async function writeGguf(python: string, path: string, type: string, shape: Shape): Promise<void> {
  const child = spawn(python, [file('write-gguf.py'), path, type], { stdio: ['pipe', 'inherit', 'inherit'] });
  child.stdin.end(JSON.stringify(shape));
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`write-gguf.py ended with ${code}`);
}
