// What the main thread and the engine thread say to each other. Pixels travel in shared memory, token ids are transferred; the rest is
// small and cloned.

import type { StepPlan as WirePlan } from '../../gen/proto/internvl/shard/v1/shard.ts';
import type { EngineLoad, StepOutput, Submission } from '../engine/engine.ts';
import type { WarmUp } from '../model/internvl.ts';
import type { CollectiveWays } from '../native/index.ts';
import type { Extent, Measured } from '../preflight/measurement.ts';

/** What the engine thread is started with. */
export interface ThreadOptions {
  readonly directory: string;
  readonly rank: number;
  readonly worldSize: number;
  readonly dtype: 'float32' | 'bfloat16';
  readonly quantization: 'none' | 'int8' | 'fp8';
  readonly threads: number;
  readonly device: { readonly kind: 'cpu' | 'cuda'; readonly index: number };
  readonly loadFormat: 'auto' | 'dummy';
  readonly collectiveHost: string;
  readonly collectiveTimeoutMs: number;
  readonly blockSize: number;
  /** undefined = the model's own limit */
  readonly maxModelLength: number | undefined;
  readonly maxSequences: number;
  readonly maxBatchedTokens: number;
  readonly stepTargetMs: number;
  readonly kvCache: { readonly bytes: number } | { readonly fraction: number };
  readonly kvCacheDtype: 'auto' | 'fp8';
  readonly prefixCache: boolean;
  readonly encoderCacheBytes: number;
}

export interface WorkerData {
  readonly options: ThreadOptions;
  /** One Int32, raised whenever the thread gets on: once per layer and step. */
  readonly progress: SharedArrayBuffer;
}

/** What opening the checkpoint told. */
export interface Prepared {
  readonly fingerprint: string;
  readonly maxModelLength: number;
  readonly vocabSize: number;
  /** Rows of one encoded picture, on each rank. */
  readonly imageBytes: number;
}

export interface Joined {
  /** By peer; empty for itself and with one rank. */
  readonly addresses: readonly Uint8Array[];
  readonly maxKvBlocks: number;
}

/** What a rank has that computes from now on. */
export interface Started {
  /** undefined of one rank. */
  readonly exchange: CollectiveWays | undefined;
  readonly warmUp: WarmUp;
}

export interface LoadProgress {
  readonly loadedBytes: number;
  readonly totalBytes: number;
}

export type ToWorker =
  | { readonly type: 'prepare' }
  | { readonly type: 'join' }
  | { readonly type: 'preflight'; readonly peerAddresses: readonly Uint8Array[]; readonly extent: Extent }
  | { readonly type: 'load' }
  | { readonly type: 'start'; readonly kvBlocks: number; readonly peerAddresses: readonly Uint8Array[] }
  | { readonly type: 'submit'; readonly submissions: readonly Submission[] }
  | { readonly type: 'abort'; readonly handles: readonly number[] }
  | { readonly type: 'plan'; readonly plan: WirePlan }
  | { readonly type: 'close' };

/** An error as it crosses the threads: classes do not survive the copy. */
export interface ThreadFault {
  readonly name: string;
  readonly code: string;
  readonly message: string;
  readonly stack: string | undefined;
}

export interface StepDone {
  readonly step: number;
  readonly planHash: number;
  readonly computeUs: number;
}

export type FromWorker =
  | { readonly type: 'prepared'; readonly value: Prepared }
  | { readonly type: 'joined'; readonly value: Joined }
  | { readonly type: 'measured'; readonly value: Measured }
  /** The links failed before the rank computes: it can join again. */
  | { readonly type: 'unmeasured'; readonly fault: ThreadFault }
  | { readonly type: 'loadProgress'; readonly value: LoadProgress }
  | { readonly type: 'loaded'; readonly value: { readonly bytes: number } }
  | { readonly type: 'started'; readonly value: Started }
  | { readonly type: 'closed'; readonly value: undefined }
  /** A plan for the other ranks: an encoded LeaderMessage. Sent before rank 0's own forward pass. */
  | { readonly type: 'plan'; readonly step: number; readonly bytes: Uint8Array }
  | ({ readonly type: 'stepDone' } & StepDone)
  /** submissionsSeen: how many submissions the load includes, counted from the start. */
  | {
      readonly type: 'output';
      readonly output: StepOutput;
      readonly load: EngineLoad;
      readonly submissionsSeen: number;
    }
  | { readonly type: 'fatal'; readonly fault: ThreadFault };
