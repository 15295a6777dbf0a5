// Entry of the engine thread: loads this rank's part of the model, then runs the step loop (rank 0) or follows its plans (rank k).

import { parentPort, workerData } from 'node:worker_threads';
import { DEFAULT_TUNING } from '../engine/engine-tuning.ts';
import { runStep } from '../engine/executor.ts';
import { RankState } from '../engine/rank-state.ts';
import type { InternVL } from '../model/internvl.ts';
import { native } from '../native/index.ts';
import { fromWirePlan } from '../shard/plan-codec.ts';
import { LeaderLoop } from './leader-loop.ts';
import type { FromWorker, ThreadFault, ToWorker, WorkerData } from './messages.ts';
import { RankModel } from './rank-model.ts';

/** Between two reports of loading progress. */
const PROGRESS_INTERVAL_MS = 200;

const port = parentPort;
if (port === null) throw new Error('worker.ts runs as a worker thread');
const { options, progress: progressBuffer } = workerData as WorkerData;
const counter = new Int32Array(progressBuffer);
const progress = (): void => void Atomics.add(counter, 0, 1);

let rankModel: RankModel | undefined;
let model: InternVL | undefined;
let leader: { readonly loop: LeaderLoop; readonly done: Promise<void> } | undefined;
let follower: RankState | undefined;

function post(message: FromWorker, transfer: ArrayBuffer[] = []): void {
  port!.postMessage(message, transfer);
}

function faultOf(err: unknown): ThreadFault {
  const error = err instanceof Error ? err : new Error(String(err));
  const code = 'code' in error && typeof error.code === 'string' ? error.code : 'internal';
  return { name: error.name, code, message: error.message, stack: error.stack };
}

function fatal(err: unknown): void {
  post({ type: 'fatal', fault: faultOf(err) });
}

function required<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`${what} before its time`);
  return value;
}

/** Links that fail here are not the end: nothing was computed yet, and another leader may take over. */
function preflight({ peerAddresses, extent }: ToWorker & { type: 'preflight' }): void {
  const ready = required(rankModel, 'preflight');
  try {
    post({ type: 'measured', value: ready.preflight(peerAddresses, extent) });
  } catch (err) {
    post({ type: 'unmeasured', fault: faultOf(err) });
  }
}

function load(): void {
  let reported = -Infinity;
  const bytes = required(rankModel, 'load').load((value) => {
    const now = performance.now();
    if (now - reported < PROGRESS_INTERVAL_MS && value.loadedBytes < value.totalBytes) return;
    reported = now;
    post({ type: 'loadProgress', value });
  });
  post({ type: 'loaded', value: { bytes } });
}

function start(kvBlocks: number, peerAddresses: readonly Uint8Array[]): void {
  const ready = required(rankModel, 'start');
  const { blockSize, maxSequences, rank, worldSize } = options;
  const { maxBatchedTokens, stepTargetMs, prefixCache } = options;
  const { model: computing, started } = ready.start(kvBlocks, peerAddresses);
  model = computing;
  if (rank > 0) {
    follower = new RankState({ blockSize, kvBlocks });
  } else {
    const { maxModelLength, vocabSize, imageBytes } = ready.prepared;
    const loop = new LeaderLoop({
      info: { maxModelLength, vocabSize, blockSize, kvBlocks, maxSequences },
      model: computing,
      tuning: {
        ...DEFAULT_TUNING,
        maxBatchedTokens,
        stepTargetMs,
        prefixCache,
        encoderCacheBytes: ready.encoderCacheBytes,
        imageBytes,
      },
      followed: worldSize > 1,
      native: native(),
      progress,
      post,
    });
    leader = { loop, done: loop.run().catch(fatal) };
  }
  post({ type: 'started', value: started });
}

function follow(message: ToWorker & { type: 'plan' }): void {
  const state = required(follower, 'a plan');
  const plan = fromWirePlan(message.plan);
  const begin = performance.now();
  runStep(state, required(model, 'a plan'), plan, undefined);
  progress();
  post({
    type: 'stepDone',
    step: plan.step,
    planHash: state.planHash,
    computeUs: Math.round((performance.now() - begin) * 1000),
  });
}

async function close(): Promise<void> {
  leader?.loop.stop();
  await leader?.done;
  model?.close();
  rankModel?.close();
  post({ type: 'closed', value: undefined });
  port!.close();
}

function handle(message: ToWorker): void {
  switch (message.type) {
    case 'prepare':
      rankModel = new RankModel(options, progress);
      post({ type: 'prepared', value: rankModel.prepared });
      break;
    case 'join':
      post({ type: 'joined', value: required(rankModel, 'join').join() });
      break;
    case 'preflight':
      preflight(message);
      break;
    case 'load':
      load();
      break;
    case 'start':
      start(message.kvBlocks, message.peerAddresses);
      break;
    case 'submit':
      required(leader, 'submit').loop.submit(message.submissions);
      break;
    case 'abort':
      required(leader, 'abort').loop.abort(message.handles);
      break;
    case 'plan':
      follow(message);
      break;
    case 'close':
      close().catch(fatal);
      break;
  }
}

port.on('message', (message: ToWorker) => {
  try {
    handle(message);
  } catch (err) {
    fatal(err);
  }
});
