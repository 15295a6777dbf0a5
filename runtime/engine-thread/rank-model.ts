// The steps from a checkpoint directory to a model that computes, on one rank, in the engine thread: the only thread that calls
// native code.

import { createHash } from 'node:crypto';
import { openCheckpoint, readModelConfig } from '../checkpoint/checkpoint.ts';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { DEFAULT_TUNING } from '../engine/engine-tuning.ts';
import { activationBytes } from '../model/activation-size.ts';
import { divideCacheMemory } from '../model/cache-memory.ts';
import type { ModelConfig } from '../model/config.ts';
import { dummyWeights } from '../model/dummy-weights.ts';
import { imageBytes, mostImageBytes, mostImages } from '../model/image-bytes.ts';
import type { EncodedImageMemory } from '../model/image-bytes.ts';
import { InternVL } from '../model/internvl.ts';
import { kvBytesPerBlock, kvCacheBlocks, kvDType } from '../model/kv-cache-size.ts';
import { loadWeights } from '../model/loader.ts';
import type { Weights } from '../model/loader.ts';
import { OutOfMemory } from '../model/memory-plan.ts';
import { partition } from '../model/partition.ts';
import { planBytes } from '../model/tensor-plan.ts';
import type { TensorPlan } from '../model/tensor-plan.ts';
import { native } from '../native/index.ts';
import type { CollectiveWays, Native } from '../native/index.ts';
import type { Extent, Measured } from '../preflight/measurement.ts';
import { CPU_TRANSPORT, deviceTransport, measureLinks, readNcclLog } from '../preflight/transport.ts';
import type { Joined, LoadProgress, Prepared, Started, ThreadOptions } from './messages.ts';

/** --max-model-length asks for more than the model can do. */
export class ModelLengthError extends Error {
  override readonly name = 'ModelLengthError';
  readonly code = 'max_model_length';
}

/** One rank's part of the model on its way from disk to the first forward pass: prepare, join, preflight or not, load, start. join may be repeated before start. */
export class RankModel {
  readonly #options: ThreadOptions;
  readonly #progress: () => void;
  readonly #native: Native;
  readonly #config: ModelConfig;
  /** undefined: weights are generated. */
  readonly #checkpoint: Checkpoint | undefined;
  readonly #plans: readonly TensorPlan[];
  readonly #maxModelLength: number;
  #encoderCacheBytes = 0;
  #collective: 'none' | 'created' | 'connected' = 'none';
  /** How the ranks exchange tensors, once they are connected. */
  #ways: CollectiveWays | undefined;
  #weights: Weights | undefined;

  /** Opens the checkpoint and plans what this rank holds of it; throws CheckpointError, ConfigError, PartitionError, ModelLengthError or NativeUnavailable. */
  constructor(options: ThreadOptions, progress: () => void) {
    this.#options = options;
    this.#progress = progress;
    this.#checkpoint = options.loadFormat === 'dummy' ? undefined : openCheckpoint(options.directory);
    const config = this.#checkpoint?.config ?? readModelConfig(options.directory);
    this.#config = config;
    const longest = config.llm.maxPositionEmbeddings;
    this.#maxModelLength = options.maxModelLength ?? longest;
    if (this.#maxModelLength > longest) {
      throw new ModelLengthError(
        `--max-model-length ${this.#maxModelLength} is more than the model's ${longest} positions`,
      );
    }
    this.#plans = partition(config, options.rank, options.worldSize, options.dtype, options.quantization);
    this.#native = native();
    const { kind, index } = options.device;
    if (kind !== 'cpu') this.#native.useDevice(kind, index);
    this.#native.setThreads(options.threads);
  }

  get prepared(): Prepared {
    return {
      fingerprint: this.#checkpoint?.fingerprint ?? dummyFingerprint(this.#config),
      maxModelLength: this.#maxModelLength,
      vocabSize: this.#config.llm.vocabSize,
      imageBytes: imageBytes(this.#config, this.#options.dtype),
    };
  }

  /** Opens this rank's end of the collective and says how many KV blocks it has memory for; throws KvCacheError. */
  join(): Joined {
    const { rank, worldSize, collectiveHost, collectiveTimeoutMs } = this.#options;
    const maxKvBlocks = this.#kvBlocks();
    if (worldSize === 1) return { addresses: [], maxKvBlocks };
    this.close();
    this.#collective = 'created';
    const addresses = this.#native.createCollective(rank, worldSize, collectiveHost, collectiveTimeoutMs);
    return { addresses, maxKvBlocks };
  }

  /** What the encoder cache may take on this rank, once join has divided its memory. */
  get encoderCacheBytes(): number {
    return this.#encoderCacheBytes;
  }

  /** Connects to the other ranks and measures the links, on all of them at once; throws CollectiveError, after which only join helps. */
  preflight(peerAddresses: readonly Uint8Array[], extent: Extent): Measured {
    const { rank, worldSize, device } = this.#options;
    const ways = this.#connect(peerAddresses);
    const transport = device.kind === 'cuda' ? deviceTransport(ways, readNcclLog) : CPU_TRANSPORT;
    return measureLinks(this.#native, transport, { rank, worldSize, extent });
  }

  /** Reads this rank's weights, once; returns their bytes. Throws CheckpointError. */
  load(onProgress: (progress: LoadProgress) => void): number {
    const report = (progress: LoadProgress): void => {
      this.#progress();
      onProgress(progress);
    };
    const checkpoint = this.#checkpoint;
    this.#weights ??= this.#explained(0, () =>
      checkpoint
        ? loadWeights(this.#native, checkpoint, this.#plans, report)
        : dummyWeights(this.#native, this.#plans, report),
    );
    return this.#weights.bytes;
  }

  /** Connects to the other ranks, where the preflight has not, allocates the KV cache and warms up; throws CollectiveError, OutOfMemory. */
  start(
    kvBlocks: number,
    peerAddresses: readonly Uint8Array[],
  ): { readonly model: InternVL; readonly started: Started } {
    const { rank, worldSize, dtype, blockSize, maxSequences, maxBatchedTokens } = this.#options;
    if (this.#weights === undefined) throw new Error('start before load');
    if (worldSize > 1) this.#connect(peerAddresses);
    const weights = this.#weights;
    const options = {
      rank,
      worldSize,
      dtype,
      kvCache: { blocks: kvBlocks, blockSize, maxModelLength: this.#maxModelLength },
      kvCacheDtype: this.#options.kvCacheDtype,
      runsAhead: this.#options.device.kind === 'cuda' ? { maxSequences, maxBatchedTokens } : undefined,
      // Exchanges by way of the host cannot be recorded.
      decodeGraphs:
        this.#native.deviceInfo().graphs && (this.#ways?.graphs ?? true) ? { maxSequences } : undefined,
      maxKeptImages: mostImages(this.#pictures(this.#encoderCacheBytes)),
      progress: this.#progress,
    };
    return this.#explained(kvBlocks, () => {
      const model = new InternVL(this.#native, this.#config, weights, options);
      const warmUp = model.warmUp(() => performance.now());
      return { model, started: { exchange: this.#ways, warmUp } };
    });
  }

  /** Leaves the collective: a peer that still waits in one fails at once. */
  close(): void {
    if (this.#collective !== 'none') this.#native.closeCollective();
    this.#collective = 'none';
  }

  #connect(peerAddresses: readonly Uint8Array[]): CollectiveWays {
    if (this.#ways !== undefined && this.#collective === 'connected') return this.#ways;
    this.#ways = this.#native.connectCollective(peerAddresses);
    this.#collective = 'connected';
    return this.#ways;
  }

  get #weightBytes(): number {
    return this.#plans.reduce((sum, plan) => sum + planBytes(plan), 0);
  }

  get #kvBlockBytes(): number {
    const { dtype, kvCacheDtype, worldSize, blockSize } = this.#options;
    return kvBytesPerBlock(this.#config, worldSize, kvDType(kvCacheDtype, dtype), blockSize);
  }

  /** What runs out of memory says who was to hold how much. */
  #explained<T>(kvBlocks: number, run: () => T): T {
    try {
      return run();
    } catch (error) {
      if (!(error instanceof Error) || error.name !== 'OutOfMemory') throw error;
      const plan = {
        weights: this.#weightBytes,
        kvCache: kvBlocks * this.#kvBlockBytes,
        encodedPictures: mostImageBytes(this.#pictures(this.#encoderCacheBytes)),
        forwardPasses: activationBytes(this.#config, this.#options),
      };
      throw new OutOfMemory(error, plan, this.#native.deviceInfo());
    }
  }

  /** Memory that caches may take: what is free now, less what is to come. A GPU's is the rank's own, so that what forward passes take can be kept for them. */
  #memoryLeft(): number {
    const onGpu = this.#options.device.kind === 'cuda';
    const free = onGpu ? this.#native.deviceInfo().freeBytes : process.availableMemory();
    const weights = this.#weights ? 0 : this.#weightBytes;
    const activations = onGpu ? activationBytes(this.#config, this.#options) : 0;
    return Math.max(0, free - weights - activations);
  }

  #pictures(encoderCacheBytes: number): EncodedImageMemory {
    const { maxEncodedImages } = DEFAULT_TUNING;
    return { imageBytes: imageBytes(this.#config, this.#options.dtype), maxEncodedImages, encoderCacheBytes };
  }

  #kvBlocks(): number {
    const { blockSize, maxSequences, kvCache, encoderCacheBytes } = this.#options;
    const left = this.#memoryLeft();
    const memory = divideCacheMemory(kvCache, left, this.#pictures(encoderCacheBytes));
    this.#encoderCacheBytes = memory.encoderCacheBytes;
    return kvCacheBlocks({
      availableBytes: memory.kvBytes,
      bytesPerBlock: this.#kvBlockBytes,
      blockSize,
      maxModelLength: this.#maxModelLength,
      maxSequences,
    });
  }
}

/** Of generated weights: equal for equal configurations. */
function dummyFingerprint(config: ModelConfig): string {
  return createHash('sha256').update('dummy').update(JSON.stringify(config)).digest('hex');
}
