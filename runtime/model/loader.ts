// Walks a rank's tensor plan over the checkpoint. Of each tensor a rank reads just the rows or columns that it holds, straight to where they
// stay.

import { CheckpointError } from '../checkpoint/checkpoint-error.ts';
import type { Checkpoint, TensorEntry } from '../checkpoint/checkpoint.ts';
import type { CheckpointFile, Native, Tensor } from '../native/index.ts';
import { planBytes, type TensorPlan } from './tensor-plan.ts';

/** Bytes of this rank's weights that are in place, padding included. */
export interface LoadProgress {
  readonly loadedBytes: number;
  readonly totalBytes: number;
}

/** The weights of one rank by the names of its plan. Whoever loads them frees them. */
export class Weights {
  readonly #native: Native;
  readonly #tensors: Map<string, Tensor>;
  readonly bytes: number;

  constructor(native: Native, tensors: Map<string, Tensor>, bytes: number) {
    this.#native = native;
    this.#tensors = tensors;
    this.bytes = bytes;
  }

  /** The tensor of that name; throws RangeError when the plan has none. */
  get(name: string): Tensor {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new RangeError(`the tensor plan has no ${name}`);
    return tensor;
  }

  free(): void {
    for (const tensor of this.#tensors.values()) this.#native.free(tensor);
    this.#tensors.clear();
  }
}

/**
 * Loads every tensor of the plan. Throws CheckpointError, naming the tensor and what is wrong with its shape or type, before anything is allocated when the checkpoint
 * does not hold what the plan reads, and CheckpointError naming the file when that cannot be read after all; on any error nothing stays allocated or open.
 */
export function loadWeights(
  native: Native,
  checkpoint: Checkpoint,
  plans: readonly TensorPlan[],
  onProgress?: (progress: LoadProgress) => void,
): Weights {
  for (const plan of plans)
    for (const copy of plan.copies) sourceDType(checkpoint.require(copy.source, copy.sourceShape));

  const totalBytes = plans.reduce((sum, plan) => sum + planBytes(plan), 0);
  const tensors = new Map<string, Tensor>();
  const weights = new Weights(native, tensors, totalBytes);
  let loadedBytes = 0;
  const allocate = ({ name, dtype, shape }: TensorPlan): Tensor => {
    const tensor = native.allocate(dtype, shape);
    tensors.set(name, tensor);
    return tensor;
  };
  try {
    readTensors(native, checkpoint, plans, allocate, (plan) => {
      loadedBytes += planBytes(plan);
      onProgress?.({ loadedBytes, totalBytes });
    });
  } catch (error) {
    weights.free();
    throw error;
  }
  return weights;
}

/** Reads every tensor of the plan into the one that `tensorOf` gives for it. Throws CheckpointError; on any error no file stays open. */
export function readTensors(
  native: Native,
  checkpoint: Checkpoint,
  plans: readonly TensorPlan[],
  tensorOf: (plan: TensorPlan) => Tensor,
  onRead?: (plan: TensorPlan) => void,
): void {
  const files = new Map<string, CheckpointFile>();
  try {
    for (const plan of plans) {
      copyInto(native, checkpoint, files, tensorOf(plan), plan);
      onRead?.(plan);
    }
  } finally {
    for (const file of files.values()) native.closeFile(file);
  }
}

function copyInto(
  native: Native,
  checkpoint: Checkpoint,
  files: Map<string, CheckpointFile>,
  tensor: Tensor,
  plan: TensorPlan,
): void {
  for (const copy of plan.copies) {
    const entry = checkpoint.require(copy.source, copy.sourceShape);
    try {
      let file = files.get(entry.file);
      if (file === undefined) {
        file = native.openFile(entry.file);
        files.set(entry.file, file);
      }
      native.copyFromFile(
        tensor,
        copy.dstRow,
        copy.dstCol,
        file,
        entry.byteOffset,
        sourceDType(entry),
        copy.sourceColumns,
        copy.srcRow,
        copy.srcCol,
        copy.rows,
        copy.cols,
      );
    } catch (cause) {
      // Headers were checked: what fails now is the disk, or a file that someone changed meanwhile.
      const why = (cause as Error).message;
      throw new CheckpointError('unreadable_file', `tensor ${entry.name} cannot be read: ${why}`, { cause });
    }
  }
}

const SOURCE_DTYPES = { BF16: 'bfloat16', F16: 'float16', F32: 'float32' } as const;

/** The type of a weight in the file; throws CheckpointError when weights cannot be of that type. */
function sourceDType({ dtype, name, file }: TensorEntry): 'float32' | 'bfloat16' | 'float16' {
  const known = (SOURCE_DTYPES as Record<string, 'float32' | 'bfloat16' | 'float16'>)[dtype];
  if (known === undefined)
    throw new CheckpointError(
      'unsupported_dtype',
      `${file}: tensor ${name} is ${dtype}; weights are read as ${Object.keys(SOURCE_DTYPES).join(', ')}`,
    );
  return known;
}
