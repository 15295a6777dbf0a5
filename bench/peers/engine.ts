// Our engine beside PyTorch and llama.cpp: the same shapes, threads and machine, in turn. Weights are random: speed depends on shapes alone.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LAYER_OF_40B, SMALL_MODEL, type Shape } from '../shapes.ts';
import { EngineProcess, type Pass } from './engine-process.ts';
import { install, LLAMA_ADDON } from './install.ts';
import { median, peerRow, rowLine, type Missing, type PeerRow, type Section } from './rows.ts';

const CONTEXT = 512;
const ROUNDS = 3;
const file = (name: string) => fileURLToPath(new URL(name, import.meta.url));

export interface EngineOptions {
  readonly threads: number;
  /** Bytes per second. */
  readonly bandwidth: number;
  readonly say: (text: string) => void;
}

export interface Comparison {
  readonly sections: readonly Section[];
  readonly missing: readonly Missing[];
  readonly versions: Readonly<Record<string, string>>;
}

type Contender = 'ours' | 'PyTorch' | 'llama.cpp';

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
const prefill: Pass = { op: 'prefill', tokens: 512, times: 1 };
const image: Pass = { op: 'image', times: 1 };
const ALL = [decode(1, 9), decode(8, 5), decode(32, 3), prefill];

const STAGES: readonly Stage[] = [
  {
    name: '0.3B Llama, bfloat16',
    shape: SMALL_MODEL,
    dtype: 'bfloat16',
    gguf: 'BF16',
    passes: [...ALL, image],
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
];

/** Peers that cannot be had, or cannot do a pass, are told in `missing`. */
export async function compareEngines(options: EngineOptions): Promise<Comparison> {
  const missing: Missing[] = [];
  const versions: Record<string, string> = {};
  const folders = new Map<Contender, string>();
  for (const peer of ['PyTorch', 'llama.cpp'] as const) {
    try {
      folders.set(peer, await install(peer, options.say));
    } catch (error) {
      missing.push({ peer, reason: (error as Error).message });
    }
  }
  const directory = mkdtempSync(join(tmpdir(), 'internvl-peers-'));
  const rows: PeerRow[] = [];
  try {
    for (const stage of STAGES)
      rows.push(
        ...(await runStage(stage, folders, join(directory, 'model.gguf'), missing, versions, options)),
      );
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  return { sections: [{ title: 'Engine', about: ABOUT, rows }], missing, versions };
}

const ABOUT = `Forward passes of one rank over ${CONTEXT} tokens of context. PyTorch: a decoder and a vision layer in eager mode
(\`bench/peers/engine-pytorch.py\`). llama.cpp: \`llama_decode\` with flash attention on a GGUF file of the same shape, its keys and values in float16.
The limit of decoding is the time to read weights, keys and values once at the machine's read bandwidth.
At 8 bits ours keeps the output head in bfloat16; PyTorch has none of that kind. In the last layer llama.cpp computes the MLP only for rows whose
logits are wanted: of a model of one layer it leaves out most of the prefill, of the 40B with its 60 layers about 1 %.`;

async function runStage(
  stage: Stage,
  folders: ReadonlyMap<Contender, string>,
  gguf: string,
  missing: Missing[],
  versions: Record<string, string>,
  { threads, bandwidth, say }: EngineOptions,
): Promise<PeerRow[]> {
  say(stage.name);
  const engines = new Map<Contender, EngineProcess>();
  const drop = async (name: Contender, what: string, error: unknown) => {
    missing.push({ peer: name, reason: `${what}: ${(error as Error).message}` });
    say(`${name}, ${what}: ${(error as Error).message}`);
    await engines.get(name)?.stop();
    engines.delete(name);
  };
  const [torch, llama] = [folders.get('PyTorch'), folders.get('llama.cpp')];
  engines.set('ours', new EngineProcess('ours', [process.execPath, file('engine-ours.ts')]));
  if (torch !== undefined && stage.quantization === undefined)
    engines.set(
      'PyTorch',
      new EngineProcess('PyTorch', [join(torch, 'bin/python'), file('engine-pytorch.py')]),
    );
  try {
    if (llama !== undefined && stage.gguf !== undefined) {
      await writeGguf(join(llama, 'bin/python'), gguf, stage.gguf, stage.shape);
      const args = [file('engine-llama.ts'), join(llama, LLAMA_ADDON), gguf] as const;
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
    for (const pass of stage.passes) rows.push(await measure(stage, pass, engines, drop, bandwidth, say));
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
  bandwidth: number,
  say: (text: string) => void,
): Promise<PeerRow> {
  const seconds = new Map<Contender, number[]>();
  for (let round = 0; round < ROUNDS; round++)
    for (const [name, engine] of Array.from(engines)) {
      if (name === 'llama.cpp' && pass.op === 'image') continue;
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
  const toFigure = (value: number) => (pass.op === 'image' ? 1000 * value : tokensOf(pass) / value);
  const figures = (of: (times: readonly number[]) => number) => {
    const named = [...seconds].map(([name, times]): [string, number] => [name, toFigure(of(times))]);
    return {
      ours: named.find(([name]) => name === 'ours')?.[1] ?? null,
      peers: Object.fromEntries(named.filter(([name]) => name !== 'ours')),
    };
  };
  const ours = engines.get('ours');
  const bytes =
    ours !== undefined && pass.op === 'decode'
      ? (await ours.call({ op: 'bytes', sequences: pass.sequences, context: pass.context })).bytes
      : undefined;
  const row = peerRow({
    metric: nameOf(pass),
    shape: pass.op === 'image' ? `3200 wide, 25 heads, ${stage.dtype}` : stage.name,
    unit: pass.op === 'image' ? 'ms' : 'tokens/s',
    better: pass.op === 'image' ? 'less' : 'more',
    ...figures(median),
    atBest: figures((times) => Math.min(...times)),
    limit: bytes === undefined ? null : (tokensOf(pass) * bandwidth) / bytes,
  });
  say(rowLine(row));
  return row;
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
