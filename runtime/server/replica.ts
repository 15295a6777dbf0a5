// The facts of a replica that its service answers from, gathered once at start.

import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { EngineInfo as WireEngineInfo } from '../../gen/proto/internvl/engine/v1/engine.ts';
import type { SubmissionLimits } from '../engine/admission.ts';
import type { EngineInfo } from '../engine/engine.ts';
import type { SamplingDefaults } from '../engine/sampling-defaults.ts';
import type { ModelConfig } from '../model/config.ts';
import type { PreflightReport } from '../preflight/report.ts';
import { toWireInterconnect } from '../preflight/wire-report.ts';

/** The files a router needs, by name; those that the checkpoint has. */
const ROUTER_FILES = [
  'tokenizer.model',
  'added_tokens.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'generation_config.json',
  'config.json',
];

/** Most pixels of a decoded picture: 64 MP. */
export const MAX_IMAGE_PIXELS = 64_000_000;
/** Requests may ask for this many most likely tokens. */
const MAX_LOGPROBS = 20;
const MAX_STOP_TOKEN_IDS = 64;

export interface Replica {
  readonly info: EngineInfo;
  readonly wireInfo: WireEngineInfo;
  readonly imageTokenId: number;
  readonly limits: SubmissionLimits;
  readonly samplingDefaults: SamplingDefaults;
  readonly routerFiles: ReadonlyMap<string, Buffer>;
  /** Changes with every start. */
  readonly epoch: string;
}

export interface ReplicaOptions {
  readonly directory: string;
  readonly info: EngineInfo;
  readonly model: ModelConfig;
  readonly servedName: string;
  readonly dtype: string;
  readonly worldSize: number;
  readonly maxImages: number;
  readonly maxImageBytes: number;
  readonly imageTokenId: number;
  readonly tokenizerFingerprint: string;
  readonly modelFingerprint: string;
  readonly version: string;
  readonly epoch: string;
  /** undefined = nothing was measured. */
  readonly preflight: PreflightReport | undefined;
}

/** Gathers the facts; reads the checkpoint's small files. */
export function describeReplica(options: ReplicaOptions): Replica {
  const { info, model, directory } = options;
  const routerFiles = new Map<string, Buffer>();
  for (const name of ROUTER_FILES) {
    const path = join(directory, name);
    if (existsSync(path)) routerFiles.set(name, readFileSync(path));
  }
  const generation = routerFiles.get('generation_config.json');
  return {
    info,
    wireInfo: {
      model: options.servedName,
      dtype: options.dtype,
      tensorParallelSize: options.worldSize,
      maxModelLength: info.maxModelLength,
      vocabSize: info.vocabSize,
      blockSize: info.blockSize,
      kvBlocks: info.kvBlocks,
      maxSequences: info.maxSequences,
      imageTokens: model.imageTokens,
      maxImages: options.maxImages,
      imageTokenId: options.imageTokenId,
      tokenizerFingerprint: options.tokenizerFingerprint,
      modelFingerprint: options.modelFingerprint,
      maxImageBytes: options.maxImageBytes,
      maxImagePixels: MAX_IMAGE_PIXELS,
      version: options.version,
      ...(options.preflight && { interconnect: toWireInterconnect(options.preflight) }),
    },
    imageTokenId: options.imageTokenId,
    limits: {
      imageTokens: model.imageTokens,
      maxImages: options.maxImages,
      maxStopTokenIds: MAX_STOP_TOKEN_IDS + model.llm.eosTokenIds.length,
      maxLogprobs: MAX_LOGPROBS,
    },
    samplingDefaults: {
      generationConfig: generation && (JSON.parse(generation.toString('utf8')) as Record<string, unknown>),
      eosTokenIds: model.llm.eosTokenIds,
    },
    routerFiles,
    epoch: options.epoch,
  };
}

/** Hex SHA-256 of a file's bytes. */
export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
