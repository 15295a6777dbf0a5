// The golden data of one checkpoint: prompts, greedy runs, intermediate tensors.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { PlacedImage } from './batches.ts';
import { readFloat32Npy, readUint8Npy } from './npy.ts';

const FIXTURES = new URL('../fixtures/', import.meta.url);

export interface GoldenRun {
  readonly name: string;
  readonly ids: readonly number[];
  /** Picture file, or null. */
  readonly picture: string | null;
  readonly newIds: readonly number[];
  readonly margins: readonly number[];
  /** Steps in which the greedy token must be equal: up to the first near tie. */
  readonly comparableSteps: number;
}

export interface GoldenTensor {
  readonly name: string;
  /** Rows of the whole tensor that are recorded; undefined: all. */
  readonly rows: readonly number[] | undefined;
  readonly tolerance: number;
  readonly data: Float32Array;
}

export interface Golden {
  readonly checkpoint: string;
  readonly runs: readonly GoldenRun[];
  readonly imageTokenId: number;
  /** Cases with intermediate tensors. */
  readonly tensorCases: readonly string[];
  readonly logprobCases: readonly string[];
  /** Largest difference of the published model's own logits between bfloat16 and float32. */
  readonly bfloat16Difference: number;
  run(name: string): GoldenRun;
  /** Intermediate tensors and last logits of a case. */
  tensors(name: string): GoldenTensor[];
  promptLogprobs(name: string): Float32Array;
}

/** Reads test/fixtures/golden/<name> for test/fixtures/checkpoints/<name>. */
export function readGolden(name: string): Golden {
  const folder = new URL(`golden/${name}/`, FIXTURES);
  const json = (file: string): unknown => JSON.parse(readFileSync(new URL(file, folder), 'utf8'));
  const manifest = json('manifest.json') as Manifest;
  const prompts = new Map(
    (json('prompts.json') as { name: string; ids: number[] }[]).map((p) => [p.name, p.ids]),
  );
  const runs = (json('generate.json') as GeneratedRun[]).map((run) => ({
    name: run.name,
    ids: prompts.get(run.name) ?? [],
    picture: run.image,
    newIds: run.new_ids,
    margins: run.margins,
    comparableSteps: run.first_unstable_step ?? run.new_ids.length,
  }));
  const added = JSON.parse(
    readFileSync(new URL(`checkpoints/${name}/added_tokens.json`, FIXTURES), 'utf8'),
  ) as Record<string, number>;
  return {
    checkpoint: fileURLToPath(new URL(`checkpoints/${name}`, FIXTURES)),
    runs,
    imageTokenId: added['<IMG_CONTEXT>'] ?? NaN,
    tensorCases: manifest.cases.tensors,
    logprobCases: manifest.cases.logprobs,
    bfloat16Difference: Math.max(...manifest.files.map((file) => file.max_abs_difference_from_fp32 ?? 0)),
    run(wanted) {
      const run = runs.find((candidate) => candidate.name === wanted);
      if (run === undefined) throw new RangeError(`no golden run ${wanted}`);
      return run;
    },
    tensors(wanted) {
      return manifest.files.flatMap(({ file, rows, tolerance }) =>
        file.startsWith(`${wanted}.`) && tolerance !== undefined && !file.includes('logprobs')
          ? [
              {
                name: file.slice(wanted.length + 1, -'.npy'.length),
                rows,
                tolerance,
                data: readFloat32Npy(new URL(file, folder)).data,
              },
            ]
          : [],
      );
    },
    promptLogprobs: (wanted) => readFloat32Npy(new URL(`${wanted}.prompt_logprobs.npy`, folder)).data,
  };
}

/** Path of the uint8 pixels [448, 448, 3] of a fixture picture. */
export function pixelsPath(picture: string): string {
  return fileURLToPath(new URL(`images/pixels_448/${picture}.npy`, FIXTURES));
}

export function readPixels(picture: string): Uint8Array {
  return readUint8Npy(pixelsPath(picture)).data;
}

/** Where the run of image tokens of a prompt with one picture lies. */
export function placeImage(ids: readonly number[], imageTokenId: number, image: number): PlacedImage {
  const position = ids.indexOf(imageTokenId);
  const tokens = ids.lastIndexOf(imageTokenId) + 1 - position;
  return { image, position, tokens };
}

interface Manifest {
  cases: { tensors: string[]; logprobs: string[] };
  files: { file: string; rows?: number[]; tolerance?: number; max_abs_difference_from_fp32?: number }[];
}

interface GeneratedRun {
  name: string;
  image: string | null;
  new_ids: number[];
  margins: number[];
  first_unstable_step: number | null;
}
