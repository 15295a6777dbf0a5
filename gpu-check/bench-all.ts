// All benches on one device, each in processes of its own: one finds the memory of the one before free again.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Row } from '../bench/results.ts';
import type { DeviceInfo } from '../runtime/native/index.ts';
import { benchPeers } from './bench-peers.ts';
import { benchServed } from './bench-served.ts';
import { BATCHES, CONTEXT, DEVICE_BENCHES, nameOf40B, PROMPT_TOKENS, quantizationFor } from './bench.ts';
import { DeviceProcess } from './device-process.ts';
import { writeModelDirectory } from './model-directory.ts';
import { layersOf40B, SHAPE_40B } from './shape-40b.ts';

export interface BenchOptions {
  readonly device: number;
  /** What is known of it. */
  readonly info: DeviceInfo;
  /** Benches whose names contain it. */
  readonly only: string;
  /** The demo model's folder. */
  readonly model: string;
  readonly say: (text: string) => void;
}

const PEER_LAYERS = 8;
const SERVED_MS = 60_000;
const SERVED_AT_ONCE = 64;

export async function* benchAll(options: BenchOptions): AsyncGenerator<Row> {
  const benches = new Map([
    ...[...DEVICE_BENCHES.keys()].map((name) => [name, () => onDevice(name, options)] as const),
    ['served', () => served(options)] as const,
    ['peers', () => peers(options)] as const,
  ]);
  for (const [name, run] of benches) {
    if (!name.includes(options.only)) continue;
    try {
      yield* await run();
    } catch (error) {
      options.say(`bench ${name} failed: ${(error as Error).message}`);
    }
  }
}

async function onDevice(name: string, { device }: BenchOptions): Promise<readonly Row[]> {
  const gpu = await DeviceProcess.start('cuda', device);
  try {
    return (await gpu.run({ type: 'bench', name }, 'rows')).rows;
  } finally {
    gpu.stop();
  }
}

async function served({ device, info, model, say }: BenchOptions): Promise<readonly Row[]> {
  const quantization = quantizationFor(info);
  if (quantization === undefined) return [];
  const folder = mkdtempSync(join(tmpdir(), 'internvl-gpu-check-'));
  try {
    writeModelDirectory(folder, SHAPE_40B, model);
    const flags = {
      model: folder,
      'load-format': 'dummy',
      dtype: 'bfloat16',
      quantization,
      device: `cuda:${device}`,
      'max-sequences': '128',
      'max-batched-tokens': '2048',
    };
    return await benchServed({
      runtime: Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value]),
      name: nameOf40B(quantization),
      durationMs: SERVED_MS,
      concurrency: SERVED_AT_ONCE,
      say,
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function peers({ say }: BenchOptions): Promise<readonly Row[]> {
  return await benchPeers({
    shape: layersOf40B(PEER_LAYERS),
    name: `${PEER_LAYERS} layers of the 40B, bfloat16`,
    device: 'cuda',
    python: 'python3',
    batches: BATCHES,
    context: CONTEXT,
    promptTokens: PROMPT_TOKENS,
    say,
  });
}
