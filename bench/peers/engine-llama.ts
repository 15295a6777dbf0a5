// llama.cpp behind the protocol of engine-process.ts: engine-llama.ts ADDON BACKENDS GGUF. The addon is the one that node-llama-cpp ships built;
// of the CPU backends in the folder, one for each instruction set, it takes the best that the machine can run. Its functions are llama.cpp's own (a batch is filled, then decoded), without sampling.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { MAX_MS, type Command, type Reply, type TimedPass } from './engine-process.ts';

interface Addon {
  readonly AddonModel: new (path: string, params: Record<string, unknown>) => { init(): Promise<boolean> };
  readonly AddonContext: new (model: object, params: Record<string, unknown>) => Context;
  init(): Promise<void>;
  loadBackends(directory?: string): void;
  setLogger(logger: (level: number, message: string) => void): void;
  setLoggerLogLevel(level: number): void;
}

interface Context {
  init(): Promise<boolean>;
  initBatch(size: number): void;
  addToBatch(sequence: number, position: number, tokens: Uint32Array, logitRows: Uint32Array): Uint32Array;
  decodeBatch(): Promise<void>;
  copySequenceStateFromOtherSequence(target: number, source: number): Promise<number>;
  removeTokenCellsFromSequence(sequence: number, from: number, to: number): boolean;
}

const MAX_SEQUENCES = 32;
const MAX_LENGTH = 2304;
const BATCH = 2048;
const LOG_ERRORS = 1;

class Engine {
  readonly #context: Context;
  /** Tokens of each sequence in the cache. */
  readonly #lengths: number[] = Array.from({ length: MAX_SEQUENCES }, () => 0);

  static async load(addon: Addon, path: string, threads: number): Promise<Engine> {
    const model = new addon.AddonModel(path, { addonExports: addon, gpuLayers: 0, useMmap: true });
    if (!(await model.init())) throw new Error(`llama.cpp did not load ${path}`);
    const context = new addon.AddonContext(model, {
      contextSize: MAX_SEQUENCES * MAX_LENGTH,
      batchSize: BATCH,
      sequences: MAX_SEQUENCES,
      flashAttention: true,
      threads,
    });
    if (!(await context.init())) throw new Error('llama.cpp made no context');
    return new Engine(context);
  }

  private constructor(context: Context) {
    this.#context = context;
  }

  async decode(sequences: number, context: number): Promise<void> {
    for (let s = 0; s < sequences; s++) {
      if (s === 0 && this.#lengths[0] === 0) await this.prefill(context);
      this.#truncate(s, context);
      if (this.#lengths[s] === 0) await this.#copy(s);
    }
    this.#context.initBatch(sequences);
    for (let s = 0; s < sequences; s++) this.#add(s, 1);
    await this.#context.decodeBatch();
  }

  /** Computes a prompt as sequence 0. */
  async prefill(tokens: number): Promise<void> {
    this.#truncate(0, 0);
    this.#context.initBatch(tokens);
    this.#add(0, tokens);
    await this.#context.decodeBatch();
  }

  /** Gives a sequence keys and values of its own, as many as the first has. */
  async #copy(sequence: number): Promise<void> {
    await this.#context.copySequenceStateFromOtherSequence(sequence, 0);
    this.#lengths[sequence] = this.#lengths[0] ?? 0;
  }

  #add(sequence: number, count: number): void {
    const start = this.#lengths[sequence] ?? 0;
    const tokens = Uint32Array.from({ length: count }, (_, i) => 100 + ((sequence * 31 + i) % 5000));
    this.#context.addToBatch(sequence, start, tokens, Uint32Array.of(count - 1));
    this.#lengths[sequence] = start + count;
  }

  #truncate(sequence: number, length: number): void {
    if ((this.#lengths[sequence] ?? 0) <= length) return;
    if (!this.#context.removeTokenCellsFromSequence(sequence, length, -1))
      throw new Error(`llama.cpp did not cut sequence ${sequence} to ${length}`);
    this.#lengths[sequence] = length;
  }
}

async function timed(run: () => Promise<void>, { times, warmUp }: TimedPass): Promise<number[]> {
  if (warmUp) await run();
  const seconds: number[] = [];
  const end = performance.now() + MAX_MS;
  while (seconds.length < times && (seconds.length === 0 || performance.now() < end)) {
    const begin = performance.now();
    await run();
    seconds.push((performance.now() - begin) / 1000);
  }
  return seconds;
}

/** llama.cpp's own number is not in the package, node-llama-cpp's is. */
function packageVersion(): string {
  const file = join(dirname(addonPath), '../../package.json');
  return `in node-llama-cpp ${(JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version}`;
}

const [addonPath = '', backends = '', gguf = ''] = process.argv.slice(2);
let engine: Engine | undefined;

async function run(command: Command): Promise<Reply> {
  if (command.op === 'load') {
    const addon = createRequire(import.meta.url)(addonPath) as Addon;
    addon.setLogger((_, message) => process.stderr.write(message));
    addon.setLoggerLogLevel(LOG_ERRORS);
    addon.loadBackends(backends);
    await addon.init();
    engine = await Engine.load(addon, gguf, command.threads);
    return { version: packageVersion() };
  }
  const loaded = engine;
  if (loaded === undefined) throw new Error('nothing is loaded');
  if (command.op === 'decode')
    return { seconds: await timed(() => loaded.decode(command.sequences, command.context), command) };
  if (command.op === 'prefill')
    return { seconds: await timed(() => loaded.prefill(command.tokens), command) };
  throw new Error('llama.cpp is not asked for that here');
}

for await (const line of createInterface({ input: process.stdin })) {
  const reply = await run(JSON.parse(line) as Command).catch((error: unknown): Reply => ({
    error: (error as Error).message,
  }));
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
