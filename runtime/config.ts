// The flags of one rank process. Pure: everything else gets a frozen Config.

import { parseArgs } from 'node:util';
import { AddressError, parseAddress } from '../rpc/address.ts';
import type { Address } from '../rpc/address.ts';
import { LOG_FORMATS, LOG_LEVELS } from '../rpc/log.ts';
import type { LogFormat, LogLevel } from '../rpc/log.ts';

/** Flags that make no sense; lists every problem, not just the first. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly code = 'bad_flags';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join('; '));
    this.problems = problems;
  }
}

export interface Config {
  /** Directory of the checkpoint. */
  readonly model: string;
  readonly servedName: string;
  readonly rank: number;
  readonly worldSize: number;
  /** gRPC addresses of all ranks, by rank; empty with one rank. */
  readonly ranks: readonly string[];
  readonly listen: string;
  /** undefined = off */
  readonly metricsListen: string | undefined;
  /** Host at which peers reach this rank's collective. */
  readonly collectiveHost: string;
  readonly dtype: 'float32' | 'bfloat16';
  /** int8 and fp8: the decoder's linear layers in half the bytes of bfloat16. */
  readonly quantization: 'none' | 'int8' | 'fp8';
  /** Tokens of prompt and answer; undefined = the model's own limit. */
  readonly maxModelLength: number | undefined;
  readonly maxSequences: number;
  readonly maxBatchedTokens: number;
  /** What a step with decodes and prefill should take; 0 = whatever maxBatchedTokens take. */
  readonly stepTargetMs: number;
  readonly blockSize: number;
  readonly kvCache: { readonly bytes: number } | { readonly fraction: number };
  /** fp8: keys and values in half the bytes of bfloat16. */
  readonly kvCacheDtype: 'auto' | 'fp8';
  /** Sequences that begin alike share what was computed of their beginning. */
  readonly prefixCache: boolean;
  /** Rows of encoded pictures kept on each rank for whoever asks about them again; 0 = none. */
  readonly encoderCacheBytes: number;
  readonly maxImages: number;
  readonly maxImageBytes: number;
  readonly threads: number;
  /** Where the model computes. */
  readonly device: { readonly kind: 'cpu' | 'cuda'; readonly index: number };
  /** dummy: generated weights in place of the checkpoint's, which need not be there. */
  readonly loadFormat: 'auto' | 'dummy';
  readonly hangTimeoutMs: number;
  /** How far rank 0 measures the links between ranks at the start. */
  readonly preflight: 'off' | 'quick' | 'full';
  /** required: rank 0 ends where ranks with GPUs do not reach each other directly. */
  readonly interconnect: 'required' | 'preferred';
  readonly drainTimeoutMs: number;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  /** JSON of the simulated engine's options; undefined = the model itself. */
  readonly simulate: Readonly<Record<string, unknown>> | undefined;
}

/** What the flags are measured against. */
export interface Machine {
  readonly cores: number;
}

const FLAGS = {
  model: 'string',
  'served-name': 'string',
  rank: 'string',
  'world-size': 'string',
  ranks: 'string',
  listen: 'string',
  'metrics-listen': 'string',
  'collective-host': 'string',
  dtype: 'string',
  quantization: 'string',
  'max-model-length': 'string',
  'max-sequences': 'string',
  'max-batched-tokens': 'string',
  'step-target-ms': 'string',
  'block-size': 'string',
  'kv-cache-bytes': 'string',
  'kv-cache-fraction': 'string',
  'kv-cache-dtype': 'string',
  'prefix-cache': 'string',
  'encoder-cache-bytes': 'string',
  'max-images': 'string',
  'max-image-bytes': 'string',
  threads: 'string',
  device: 'string',
  'load-format': 'string',
  'hang-timeout-ms': 'string',
  preflight: 'string',
  interconnect: 'string',
  'drain-timeout-ms': 'string',
  'log-level': 'string',
  'log-format': 'string',
  simulate: 'string',
} as const;

type Flag = keyof typeof FLAGS;

/**
 * Flags that may come from the environment too: the operator does not give what an older image would not know as flags, and an image for GPUs says so itself, so that
 * a missing driver is an error and never a slow answer.
 */
const FROM_ENVIRONMENT = {
  INTERNVL_PREFLIGHT: 'preflight',
  INTERNVL_INTERCONNECT: 'interconnect',
  INTERNVL_DEVICE: 'device',
} as const;

/** The flags that the environment sets; the command line's own come after them and win. */
export function environmentFlags(environment: Readonly<Record<string, string | undefined>>): string[] {
  return Object.entries(FROM_ENVIRONMENT).flatMap(([variable, flag]) => {
    const value = environment[variable];
    return value === undefined || value === '' ? [] : [`--${flag}`, value];
  });
}

/** Reads the flags of a rank process; throws ConfigError. */
export function parseConfig(argv: readonly string[], machine: Machine): Config {
  const flags = new Flags(argv);
  const worldSize = flags.integer('world-size', 1, { min: 1, max: 64 });
  const rank = flags.integer('rank', 0, { min: 0, max: 63 });
  const listen = flags.address('listen', '127.0.0.1:9000');
  const model = flags.text('model', undefined);
  const metrics = flags.address('metrics-listen', '127.0.0.1:0'); // port 0 = off
  const bytes = flags.optionalInteger('kv-cache-bytes', { min: 1 });
  const maxSequences = flags.integer('max-sequences', 64, { min: 1, max: 4096 });
  const device = flags.device('device');
  const config: Config = Object.freeze({
    model,
    servedName: flags.text('served-name', model.split('/').findLast((part) => part !== '') ?? model),
    rank,
    worldSize,
    ranks: Object.freeze(flags.list('ranks')),
    listen: flags.text('listen', '127.0.0.1:9000'),
    metricsListen: metrics.port === 0 ? undefined : flags.text('metrics-listen', undefined),
    collectiveHost: flags.text('collective-host', listen.host),
    dtype: flags.oneOf('dtype', ['float32', 'bfloat16'], 'bfloat16'),
    quantization: flags.oneOf('quantization', ['none', 'int8', 'fp8'], 'none'),
    maxModelLength: flags.optionalInteger('max-model-length', { min: 2 }),
    maxSequences,
    maxBatchedTokens: flags.integer('max-batched-tokens', 512, { min: 1 }), // per step: memory of a forward pass
    stepTargetMs: flags.integer('step-target-ms', 100, { min: 0 }), // ten tokens a second while prompts come in: faster than people read
    blockSize: flags.integer('block-size', 16, { min: 1, max: 1024 }), // tokens: small enough to waste little on short sequences
    kvCache:
      bytes === undefined
        ? { fraction: flags.fraction('kv-cache-fraction', device.kind === 'cuda' ? 0.9 : 0.3) } // of free memory: several ranks fit on one machine, a GPU is a rank's own
        : { bytes },
    kvCacheDtype: flags.oneOf('kv-cache-dtype', ['auto', 'fp8'], 'auto'),
    prefixCache: flags.oneOf('prefix-cache', ['on', 'off'], 'on') === 'on',
    encoderCacheBytes: flags.integer('encoder-cache-bytes', 256 << 20, { min: 0 }), // about 70 pictures of the published model
    maxImages: flags.integer('max-images', 4, { min: 0, max: 256 }), // per prompt
    maxImageBytes: flags.integer('max-image-bytes', 20 << 20, { min: 1, max: 0xffffffff }), // of one file: a large photograph
    threads: flags.integer('threads', Math.max(1, Math.floor(machine.cores / worldSize)), {
      min: 1,
      max: 1024,
    }),
    device,
    loadFormat: flags.oneOf('load-format', ['auto', 'dummy'], 'auto'),
    hangTimeoutMs: flags.integer('hang-timeout-ms', 4000, { min: 500 }), // with the 500 ms of a heartbeat within the 5 s promised
    preflight: flags.oneOf('preflight', ['off', 'quick', 'full'], 'quick'),
    interconnect: flags.oneOf('interconnect', ['required', 'preferred'], 'preferred'),
    drainTimeoutMs: flags.integer('drain-timeout-ms', 30_000, { min: 0 }), // the usual grace of a pod
    logLevel: flags.oneOf('log-level', LOG_LEVELS, 'info'),
    logFormat: flags.oneOf('log-format', LOG_FORMATS, 'json'),
    simulate: flags.json('simulate'),
  });
  if (rank >= worldSize) flags.problem(`--rank ${rank} is not below --world-size ${worldSize}`);
  if (config.ranks.length !== worldSize && (worldSize > 1 || config.ranks.length > 0)) {
    flags.problem(`--ranks names ${config.ranks.length} addresses for --world-size ${worldSize}`);
  }
  if (config.maxBatchedTokens < maxSequences) {
    flags.problem(
      `--max-batched-tokens ${config.maxBatchedTokens} is below --max-sequences ${maxSequences}: every running sequence needs one token a step`,
    );
  }
  if (config.simulate !== undefined && worldSize > 1) {
    flags.problem('--simulate needs --world-size 1: a simulated engine has no ranks');
  }
  if (config.interconnect === 'required' && config.preflight === 'off') {
    flags.problem(
      '--interconnect required needs a preflight: without it nobody knows how the ranks reach each other',
    );
  }
  if (bytes !== undefined && flags.has('kv-cache-fraction')) {
    flags.problem('--kv-cache-bytes and --kv-cache-fraction exclude each other');
  }
  flags.throwProblems();
  return config;
}

interface Range {
  readonly min: number;
  readonly max?: number;
}

/** Typed access to the flags that notes problems instead of throwing at the first. */
class Flags {
  readonly #values: Partial<Record<Flag, string>>;
  readonly #problems: string[] = [];

  constructor(argv: readonly string[]) {
    const options = Object.fromEntries(Object.entries(FLAGS).map(([name, type]) => [name, { type }]));
    this.#values = {};
    const { tokens } = parseArgs({
      args: [...argv],
      options,
      strict: false,
      tokens: true,
      allowPositionals: true,
    });
    for (const token of tokens) {
      if (token.kind === 'positional') this.problem(`unexpected argument '${token.value}'`);
      else if (token.kind === 'option' && !(token.name in FLAGS))
        this.problem(`unknown flag --${token.name}`);
      else if (token.kind === 'option' && token.value === undefined)
        this.problem(`--${token.name} needs a value`);
      else if (token.kind === 'option') this.#values[token.name as Flag] = token.value!;
    }
  }

  has(flag: Flag): boolean {
    return this.#values[flag] !== undefined;
  }

  problem(text: string): void {
    this.#problems.push(text);
  }

  throwProblems(): void {
    if (this.#problems.length > 0) throw new ConfigError(this.#problems);
  }

  text(flag: Flag, otherwise: string | undefined): string {
    const value = this.#values[flag] ?? otherwise;
    if (value === undefined || value === '') this.problem(`--${flag} is required`);
    return value ?? '';
  }

  list(flag: Flag): string[] {
    const addresses = (this.#values[flag] ?? '').split(',').filter((part) => part !== '');
    for (const address of addresses) this.#parseAddress(flag, address);
    return addresses;
  }

  address(flag: Flag, otherwise: string): Address {
    return this.#parseAddress(flag, this.#values[flag] ?? otherwise);
  }

  optionalInteger(flag: Flag, range: Range): number | undefined {
    return this.has(flag) ? this.integer(flag, 0, range) : undefined;
  }

  integer(flag: Flag, otherwise: number, { min, max = Number.MAX_SAFE_INTEGER }: Range): number {
    const text = this.#values[flag];
    if (text === undefined) return otherwise;
    const value = /^\d+$/.test(text) ? Number(text) : NaN;
    if (value >= min && value <= max) return value;
    this.problem(
      `--${flag} is '${text}': it must be a whole number ${max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`}`,
    );
    return otherwise;
  }

  fraction(flag: Flag, otherwise: number): number {
    const text = this.#values[flag];
    if (text === undefined) return otherwise;
    const value = Number(text);
    if (value > 0 && value <= 1) return value;
    this.problem(`--${flag} is '${text}': it must be above 0 and at most 1`);
    return otherwise;
  }

  oneOf<T extends string>(flag: Flag, values: readonly T[], otherwise: T): T {
    const text = this.#values[flag];
    if (text === undefined) return otherwise;
    const known = values.find((value) => value === text);
    if (known === undefined) this.problem(`--${flag} is '${text}': it must be one of ${values.join(', ')}`);
    return known ?? otherwise;
  }

  /** cpu, cuda, or cuda:N for one of several. */
  device(flag: Flag): Config['device'] {
    const text = this.#values[flag] ?? 'cpu';
    const match = /^(cpu|cuda)(?::(\d{1,3}))?$/.exec(text);
    const kind = match?.[1] === 'cuda' ? 'cuda' : 'cpu';
    if (!match || (kind === 'cpu' && match[2] !== undefined))
      this.problem(`--${flag} is '${text}': it must be cpu, cuda or cuda:N`);
    return { kind, index: Number(match?.[2] ?? 0) };
  }

  json(flag: Flag): Readonly<Record<string, unknown>> | undefined {
    const text = this.#values[flag];
    if (text === undefined) return undefined;
    try {
      const value: unknown = JSON.parse(text);
      if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
        return value as Record<string, unknown>;
      }
      this.problem(`--${flag} is not a JSON object`);
    } catch (err) {
      this.problem(`--${flag} is not JSON: ${(err as Error).message}`);
    }
    return undefined;
  }

  #parseAddress(flag: Flag, text: string): Address {
    try {
      return parseAddress(text);
    } catch (err) {
      if (!(err instanceof AddressError)) throw err;
      this.problem(`--${flag}: ${err.message}`);
      return { host: '127.0.0.1', port: 0 };
    }
  }
}
