// A checkpoint directory in the published layout: config.json, and the weights as one model.safetensors or as shards with an index.
// Opening reads headers only; ranks map the files themselves and copy the bytes that they need.

import { createHash } from 'node:crypto';
import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseModelConfig } from '../model/config.ts';
import type { ModelConfig } from '../model/config.ts';
import { CheckpointError } from './checkpoint-error.ts';
import { LENGTH_BYTES, parseHeader, parseHeaderLength } from './safetensors.ts';
import type { HeaderTensor, SafetensorsDType } from './safetensors.ts';

export interface TensorEntry {
  readonly name: string;
  /** Absolute path. */
  readonly file: string;
  /** From the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
}

export class Checkpoint {
  /** Absolute path. */
  readonly directory: string;
  readonly config: ModelConfig;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** Sum of the tensors' bytes. */
  readonly totalBytes: number;
  /** Hex SHA-256 over the configuration and where each tensor lies: equal for equal checkpoints in any directory. The weights themselves are not read. */
  readonly fingerprint: string;

  constructor(
    directory: string,
    config: ModelConfig,
    tensors: ReadonlyMap<string, TensorEntry>,
    fingerprint: string,
  ) {
    this.directory = directory;
    this.config = config;
    this.tensors = tensors;
    this.totalBytes = [...tensors.values()].reduce((sum, tensor) => sum + tensor.byteLength, 0);
    this.fingerprint = fingerprint;
  }

  has(name: string): boolean {
    return this.tensors.has(name);
  }

  /** The tensor of that name, which must have that shape; throws CheckpointError. */
  require(name: string, shape: readonly number[]): TensorEntry {
    const tensor = this.tensors.get(name);
    if (tensor === undefined) {
      const near = nearestNames(name, this.tensors.keys());
      throw new CheckpointError(
        'missing_tensor',
        `${this.directory}: tensor ${name} is missing${near.length > 0 ? `; near names are ${near.join(', ')}` : ''}`,
      );
    }
    if (tensor.shape.length !== shape.length || tensor.shape.some((size, axis) => size !== shape[axis]))
      throw new CheckpointError(
        'wrong_shape',
        `${tensor.file}: tensor ${name} has shape [${tensor.shape.join(', ')}]; config.json calls for [${shape.join(', ')}]`,
      );
    return tensor;
  }
}

const INDEX_FILE = 'model.safetensors.index.json';
const SINGLE_FILE = 'model.safetensors';

/** Reads configuration, index and headers of a checkpoint directory; throws CheckpointError or ConfigError naming what is wrong. */
export function openCheckpoint(directory: string): Checkpoint {
  const root = resolve(directory);
  if (!existsSync(root)) throw new CheckpointError('missing_file', `${root}: no such directory`);
  const configPath = join(root, 'config.json');
  const configBytes = readWhole(configPath);
  const config = readModelConfig(root);
  const hash = createHash('sha256').update(configBytes);

  const tensors = new Map<string, TensorEntry>();
  const indexPath = join(root, INDEX_FILE);
  if (existsSync(indexPath)) {
    const index = readWhole(indexPath);
    for (const [file, names] of parseIndex(index, indexPath))
      addShard(tensors, join(root, file), names, indexPath);
  } else if (existsSync(join(root, SINGLE_FILE))) {
    addShard(tensors, join(root, SINGLE_FILE), undefined, undefined);
  } else {
    throw new CheckpointError('missing_file', `${root}: neither ${INDEX_FILE} nor ${SINGLE_FILE} is there`);
  }
  for (const [name, tensor] of [...tensors].sort(([a], [b]) => (a < b ? -1 : 1)))
    hash.update(`${name} ${tensor.dtype} ${tensor.shape.join('x')} ${tensor.byteOffset}\n`);
  return new Checkpoint(root, config, tensors, hash.digest('hex'));
}

/** The configuration of a directory that need not hold weights: config.json, and generation_config.json where there is one. */
export function readModelConfig(directory: string): ModelConfig {
  const generationPath = join(directory, 'generation_config.json');
  return parseModelConfig(
    readJson(join(directory, 'config.json')),
    existsSync(generationPath) ? readJson(generationPath) : undefined,
  );
}

/** Shard file -> the tensors that the index expects in it. */
function parseIndex(bytes: Uint8Array, indexPath: string): ReadonlyMap<string, readonly string[]> {
  const index = parseJson(bytes, indexPath) as { weight_map?: unknown } | null;
  const weightMap = index?.weight_map;
  if (typeof weightMap !== 'object' || weightMap === null || Array.isArray(weightMap))
    throw new CheckpointError('invalid_file', `${indexPath}: has no weight_map object`);
  const shards = new Map<string, string[]>();
  for (const [name, file] of Object.entries(weightMap)) {
    // A shard lies beside its index: a path could name any file of the machine.
    if (typeof file !== 'string' || file === '' || file === '.' || file === '..' || /[/\\\0]/.test(file))
      throw new CheckpointError(
        'invalid_file',
        `${indexPath}: tensor ${name} is mapped to ${JSON.stringify(file)}, which is not a file name`,
      );
    const names = shards.get(file);
    if (names === undefined) shards.set(file, [name]);
    else names.push(name);
  }
  return shards;
}

function addShard(
  tensors: Map<string, TensorEntry>,
  file: string,
  expected: readonly string[] | undefined,
  indexPath: string | undefined,
): void {
  if (!existsSync(file))
    throw new CheckpointError(
      'missing_file',
      `${file}: the shard is missing; ${indexPath ?? 'the checkpoint'} lists it`,
    );
  const header = readHeader(file);
  for (const name of expected ?? header.keys()) {
    if (isDerived(name)) continue;
    const tensor = header.get(name);
    if (tensor === undefined)
      throw new CheckpointError(
        'missing_tensor',
        `${file}: tensor ${name} is missing; ${indexPath} says it is here`,
      );
    tensors.set(name, { name, file, ...tensor });
  }
}

/** Old checkpoints carry the rotary frequencies, which follow from the configuration. */
function isDerived(name: string): boolean {
  return name.endsWith('.rotary_emb.inv_freq');
}

function readHeader(file: string): ReadonlyMap<string, HeaderTensor> {
  const descriptor = openSync(file, 'r');
  try {
    const fileBytes = fstatSync(descriptor).size;
    const prefix = readAt(descriptor, 0, Math.min(LENGTH_BYTES, fileBytes), file);
    const length = parseHeaderLength(prefix, fileBytes, file);
    return parseHeader(readAt(descriptor, LENGTH_BYTES, length, file), fileBytes, file);
  } finally {
    closeSync(descriptor);
  }
}

function readAt(descriptor: number, position: number, length: number, file: string): Uint8Array {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const count = readSync(descriptor, bytes, done, length - done, position + done);
    if (count === 0)
      throw new CheckpointError('invalid_file', `${file}: ended at byte ${position + done} while being read`);
    done += count;
  }
  return bytes;
}

function readJson(path: string): unknown {
  return parseJson(readWhole(path), path);
}

function parseJson(bytes: Uint8Array, path: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new CheckpointError('invalid_file', `${path}: is not JSON: ${(cause as Error).message}`, { cause });
  }
}

function readWhole(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new CheckpointError('missing_file', `${path}: cannot be read: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** Up to three names that share the most dotted parts with the wanted one. */
function nearestNames(wanted: string, names: Iterable<string>): string[] {
  const parts = new Set(wanted.split('.'));
  const scored: { name: string; score: number }[] = [];
  for (const name of names) {
    const score = name.split('.').filter((part) => parts.has(part)).length;
    if (score >= 2 || (score === 1 && parts.size === 1)) scored.push({ name, score });
  }
  return scored
    .sort((a, b) => b.score - a.score || (a.name < b.name ? -1 : 1))
    .slice(0, 3)
    .map(({ name }) => name);
}
